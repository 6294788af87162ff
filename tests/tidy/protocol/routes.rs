use std::collections::BTreeMap;

use syn::visit::{self, Visit};

use crate::tidy::tree::{files, read};

/// Whose routers face the outside: the edge's, and the admin endpoint that every node has.
const ROUTERS: &[&str] = &["edge/src/", "crates/node/src/"];

const METHODS: [&str; 5] = ["get", "post", "put", "patch", "delete"];

/// `METHOD /path`, with parameters as `{}`, whatever they are called.
pub(super) fn route(method: &str, path: &str) -> String {
    let mut out = format!("{} ", method.to_uppercase());
    let mut inside = false;
    for c in path.chars() {
        inside = (inside || c == '{') && c != '}';
        if !inside || c == '{' {
            out.push(c);
        }
    }
    out
}

/// Every `.route("/path", get(…).post(…))` of the nodes, with its file.
pub(super) fn offered() -> BTreeMap<String, String> {
    let mut routes = BTreeMap::new();
    for file in
        files().into_iter().filter(|file| ROUTERS.iter().any(|folder| file.starts_with(folder)))
    {
        let Some(syntax) = read(&file).and_then(|text| syn::parse_file(&text).ok()) else {
            continue;
        };
        let mut calls = Routes { found: Vec::new() };
        calls.visit_file(&syntax);
        routes.extend(calls.found.into_iter().map(|route| (route, file.clone())));
    }
    routes
}

struct Routes {
    found: Vec<String>,
}

impl<'ast> Visit<'ast> for Routes {
    fn visit_item_mod(&mut self, module: &'ast syn::ItemMod) {
        if module.ident != "tests" {
            visit::visit_item_mod(self, module);
        }
    }

    fn visit_expr_method_call(&mut self, call: &'ast syn::ExprMethodCall) {
        visit::visit_expr_method_call(self, call);
        if call.method != "route" || call.args.len() != 2 {
            return;
        }
        if let syn::Expr::Lit(syn::ExprLit { lit: syn::Lit::Str(path), .. }) = &call.args[0] {
            let mut methods = Vec::new();
            methods_of(&call.args[1], &mut methods);
            self.found.extend(methods.iter().map(|method| route(method, &path.value())));
        }
    }
}

/// The methods of `get(…)`, `routing::get(…)`, `get(…).post(…)`; what handles them is not looked
/// at.
fn methods_of(expr: &syn::Expr, out: &mut Vec<String>) {
    let mut keep = |name: String| out.extend(METHODS.contains(&name.as_str()).then_some(name));
    match expr {
        syn::Expr::Call(call) => {
            if let syn::Expr::Path(path) = &*call.func {
                keep(
                    path.path
                        .segments
                        .last()
                        .map(|last| last.ident.to_string())
                        .unwrap_or_default(),
                );
            }
        }
        syn::Expr::MethodCall(call) => {
            keep(call.method.to_string());
            methods_of(&call.receiver, out);
        }
        _ => {}
    }
}
