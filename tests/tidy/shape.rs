use proc_macro2::{TokenStream, TokenTree};
use syn::spanned::Spanned;
use syn::visit::{self, Visit};

use super::finding::{Finding, none};
use super::tree::{Member, files, members, read};

/// Longest file, without its unit tests. Most have 100 to 350 lines.
const FILE_LINES_MAX: usize = 500;
/// Longest function. Most have 5 to 40 lines.
const FUNCTION_LINES_MAX: usize = 80;
/// Files and functions (`file::fn name`) that are still longer, with their lines. A number here may
/// only become smaller.
const LONGER: &[(&str, usize)] = &[];

/// The longest that a file or function may be.
fn lines_max(name: &str, usual: usize) -> usize {
    LONGER.iter().find(|(longer, _)| *longer == name).map_or(usual, |(_, lines)| *lines)
}

/// A path that node code may not name: two neighbouring words, the exceptions, and the cure.
struct Ban {
    path: (&'static str, &'static str),
    /// Crates or files in which it is the point, each with its reason.
    allowed: &'static [(&'static str, &'static str)],
    /// Crates in which it is banned; empty for all.
    only_in: &'static [&'static str],
    cure: &'static str,
}

const SOCKETS: (&str, &str) = ("crates/net/", "the only place that opens sockets");
const COMMITTER: (&str, &str) =
    ("crates/store/src/embedded/committer.rs", "lives as long as its replica, in fdatasync");
const SIMULATED: (&str, &str) =
    ("topology/sim/src/net.rs", "the simulator's sockets, which bear the names of tokio's");
const SIMULATOR: (&str, &str) = (
    "topology/sim/src/",
    "no node: each run has a thread of its own, which is what makes it repeatable",
);
const REPAIR: (&str, &str) =
    ("crates/store/src/embedded.rs", "reads whole replicas, which blocks for seconds");

const RULES: &[&str] = &["wire", "conversation", "topology"];

const BANS: &[Ban] = &[
    ban(
        ("tokio", "net"),
        &[SOCKETS, SIMULATED],
        &[],
        "take a `net::Net`, so that the simulator can stand below",
    ),
    ban(
        ("net", "TcpStream"),
        &[SOCKETS, SIMULATED],
        &[],
        "take a `net::Net`, so that the simulator can stand below",
    ),
    ban(
        ("net", "TcpListener"),
        &[SOCKETS, SIMULATED],
        &[],
        "take a `net::Listener`, so that the simulator can stand below",
    ),
    ban(
        ("net", "UdpSocket"),
        &[SOCKETS, SIMULATED],
        &[],
        "take a `net::Udp`, so that the simulator can stand below",
    ),
    ban(("futures", "select"), &[], &[], "`tokio::select!`, whose order can be seeded"),
    ban(("futures_util", "select"), &[], &[], "`tokio::select!`, whose order can be seeded"),
    ban(("futures_util", "select_biased"), &[], &[], "`tokio::select!` with `biased;`"),
    ban(("thread", "spawn"), &[], &[], "a supervised task; `spawn_blocking` for work that blocks"),
    ban(
        ("thread", "Builder"),
        &[COMMITTER, REPAIR, SIMULATOR],
        &[],
        "a supervised task; `spawn_blocking` for work that blocks",
    ),
    ban(("SystemTime", "now"), &[], RULES, "let the caller pass in `now`"),
    ban(("Instant", "now"), &[], RULES, "let the caller pass in `now`"),
];

const fn ban(
    path: (&'static str, &'static str),
    allowed: &'static [(&'static str, &'static str)],
    only_in: &'static [&'static str],
    cure: &'static str,
) -> Ban {
    Ban { path, allowed, only_in, cure }
}

impl Ban {
    fn holds_in(&self, member: &Member, file: &str) -> bool {
        let concerned = self.only_in.is_empty() || self.only_in.contains(&member.name.as_str());
        concerned && !self.allowed.iter().any(|(place, _)| file.starts_with(place))
    }
}

/// A source of the product, parsed.
pub(super) struct Source {
    pub(super) file: String,
    text: String,
    pub(super) syntax: syn::File,
}

/// The sources of a crate, without the files that are its unit tests.
pub(super) fn product(member: &Member, files: &[String]) -> Vec<Source> {
    let folder = format!("{}/src/", member.dir);
    let sources = member.sources(files).into_iter().filter(|file| file.starts_with(&folder));
    let parsed = sources.filter_map(|file| {
        let text = read(file)?;
        Some(Source { file: file.to_owned(), syntax: syn::parse_file(&text).ok()?, text })
    });
    let parsed: Vec<Source> = parsed.collect();
    let tests: Vec<String> = parsed.iter().flat_map(test_files).collect();
    let is_test = |file: &str| {
        tests
            .iter()
            .any(|test| file == format!("{test}.rs") || file.starts_with(&format!("{test}/")))
    };
    parsed.into_iter().filter(|source| !is_test(&source.file)).collect()
}

/// The paths, without `.rs`, of the modules that a file declares as `#[cfg(test)] mod name;`.
fn test_files(source: &Source) -> Vec<String> {
    let folder = match source.file.strip_suffix(".rs").and_then(|path| path.rsplit_once('/')) {
        Some((folder, "lib" | "main" | "mod")) => folder.to_owned(),
        _ => source.file.trim_end_matches(".rs").to_owned(),
    };
    let tests = source.syntax.items.iter().filter_map(|item| match item {
        syn::Item::Mod(module) if module.content.is_none() && is_test(&module.attrs) => {
            Some(module.ident.to_string())
        }
        _ => None,
    });
    tests.map(|name| format!("{folder}/{name}")).collect()
}

/// Whether the item is only there under test.
fn is_test(attrs: &[syn::Attribute]) -> bool {
    attrs.iter().any(|attr| {
        let syn::Meta::List(list) = &attr.meta else { return attr.path().is_ident("test") };
        let words: Vec<String> =
            list.tokens.to_string().split(|c: char| !c.is_alphanumeric()).map(Into::into).collect();
        let has = |word: &str| words.iter().any(|found| found == word);
        list.path.is_ident("cfg") && has("test") && !has("not")
    })
}

fn lines_of(spanned: &impl Spanned) -> usize {
    let span = spanned.span();
    span.end().line + 1 - span.start().line
}

#[test]
fn every_crate_starts_with_what_it_is() {
    let mut findings = Vec::new();
    for member in members() {
        let roots = ["src/lib.rs", "src/main.rs"].map(|file| format!("{}/{file}", member.dir));
        for (file, text) in roots.iter().filter_map(|file| Some((file, read(file)?))) {
            if !text.starts_with("//!") {
                findings.push(Finding::new(file, "has no header"));
            }
        }
    }
    none(
        "a crate starts with a `//!` header",
        "say what it is, where in the story it stands (from whom, to whom), and what it must never do",
        findings,
    );
}

#[test]
fn files_and_functions_fit_into_a_head() {
    let files = files();
    let mut findings = Vec::new();
    for source in members().iter().flat_map(|member| product(member, &files)) {
        let tests: usize =
            source.syntax.items.iter().filter(|item| is_test(attrs(item))).map(lines_of).sum();
        let lines = source.text.lines().count() - tests;
        let max = lines_max(&source.file, FILE_LINES_MAX);
        if lines > max {
            findings.push(Finding::new(&source.file, format!("{lines} lines, {max} at most")));
        }
        let mut functions = Functions { file: &source.file, findings: Vec::new() };
        functions.visit_file(&source.syntax);
        findings.append(&mut functions.findings);
    }
    none(
        "no file and no function is too long to be understood at once",
        "find the second thing that it does, and give that a name and a place",
        findings,
    );
}

fn attrs(item: &syn::Item) -> &[syn::Attribute] {
    match item {
        syn::Item::Mod(item) => &item.attrs,
        syn::Item::Fn(item) => &item.attrs,
        syn::Item::Impl(item) => &item.attrs,
        _ => &[],
    }
}

/// Finds the functions that are too long.
struct Functions<'a> {
    file: &'a str,
    findings: Vec<Finding>,
}

impl Functions<'_> {
    fn measure(&mut self, signature: &syn::Signature, body: &syn::Block) {
        let lines = lines_of(body);
        let name = format!("{}::fn {}", self.file, signature.ident);
        let max = lines_max(&name, FUNCTION_LINES_MAX);
        if lines > max {
            let what = format!("fn {}: {lines} lines, {max} at most", signature.ident);
            self.findings.push(Finding::on_line(self.file, signature.span().start().line, what));
        }
    }
}

impl<'ast> Visit<'ast> for Functions<'_> {
    fn visit_item_mod(&mut self, module: &'ast syn::ItemMod) {
        if !is_test(&module.attrs) {
            visit::visit_item_mod(self, module);
        }
    }

    fn visit_item_fn(&mut self, function: &'ast syn::ItemFn) {
        self.measure(&function.sig, &function.block);
        visit::visit_item_fn(self, function);
    }

    fn visit_impl_item_fn(&mut self, function: &'ast syn::ImplItemFn) {
        self.measure(&function.sig, &function.block);
        visit::visit_impl_item_fn(self, function);
    }

    fn visit_trait_item_fn(&mut self, function: &'ast syn::TraitItemFn) {
        if let Some(body) = &function.default {
            self.measure(&function.sig, body);
        }
        visit::visit_trait_item_fn(self, function);
    }
}

#[test]
fn node_code_opens_no_socket_starts_no_thread_and_rules_read_no_clock() {
    let files = files();
    let mut findings = Vec::new();
    for member in members()
        .iter()
        .filter(|member| !["stories", "test-cluster"].contains(&member.name.as_str()))
    {
        for source in product(member, &files) {
            let mut paths = Paths::default();
            paths.visit_file(&source.syntax);
            for (line, path) in paths.found {
                let named = |ban: &&Ban| {
                    path.windows(2).any(|two| two[0] == ban.path.0 && two[1] == ban.path.1)
                };
                for ban in
                    BANS.iter().filter(named).filter(|ban| ban.holds_in(member, &source.file))
                {
                    let what = format!("names {}; instead: {}", path.join("::"), ban.cure);
                    findings.push(Finding::on_line(&source.file, line, what));
                }
            }
        }
    }
    none(
        "the product runs unchanged on virtual time",
        "do as the line says; where it is the point of the file, allow it in BANS of tests/tidy/shape.rs, with the reason",
        findings,
    );
}

/// Collects every path that is named outside tests: in `use`, in code, and among the tokens of
/// macros.
#[derive(Default)]
pub(super) struct Paths {
    /// Line, and words.
    pub(super) found: Vec<(usize, Vec<String>)>,
}

impl Paths {
    fn flatten(&mut self, tree: &syn::UseTree, before: &[String]) {
        let with = |name: &syn::Ident| [before, &[name.to_string()]].concat();
        match tree {
            syn::UseTree::Path(path) => self.flatten(&path.tree, &with(&path.ident)),
            syn::UseTree::Name(name) => {
                self.found.push((name.span().start().line, with(&name.ident)))
            }
            syn::UseTree::Rename(name) => {
                self.found.push((name.span().start().line, with(&name.ident)))
            }
            syn::UseTree::Glob(star) => {
                self.found.push((star.span().start().line, before.to_vec()))
            }
            syn::UseTree::Group(group) => {
                group.items.iter().for_each(|tree| self.flatten(tree, before))
            }
        }
    }

    /// Finds `a::b::c` among the tokens of a macro, which the parser does not look into.
    fn scan(&mut self, tokens: TokenStream) {
        let (mut path, mut line, mut colons): (Vec<String>, usize, usize) = (Vec::new(), 0, 0);
        for token in tokens {
            match token {
                TokenTree::Ident(word) => {
                    if colons != 2 {
                        self.found.push((line, std::mem::take(&mut path)));
                    }
                    path.push(word.to_string());
                    (line, colons) = (word.span().start().line, 0);
                }
                TokenTree::Punct(punct) if punct.as_char() == ':' => colons += 1,
                TokenTree::Group(group) => self.scan(group.stream()),
                _ => colons = 0,
            }
        }
        self.found.push((line, path));
    }
}

impl<'ast> Visit<'ast> for Paths {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        if !is_test(attrs(item)) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.flatten(&item.tree, &[]);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        self.found.push((path.span().start().line, segments));
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        self.scan(call.tokens.clone());
        visit::visit_macro(self, call);
    }
}

#[test]
fn every_allowance_is_still_needed() {
    let files = files();
    let sources: Vec<Source> =
        members().iter().flat_map(|member| product(member, &files)).collect();
    let mut findings = Vec::new();
    for ban in BANS {
        for (place, reason) in ban.allowed {
            let needed =
                sources.iter().filter(|source| source.file.starts_with(place)).any(|source| {
                    let mut paths = Paths::default();
                    paths.visit_file(&source.syntax);
                    paths
                        .found
                        .iter()
                        .any(|(_, path)| path.windows(2).any(|two| two == [ban.path.0, ban.path.1]))
                });
            if !needed && *place != SOCKETS.0 {
                let what = format!("{}::{} is not named there ({reason})", ban.path.0, ban.path.1);
                findings.push(Finding::new(*place, what));
            }
        }
    }
    none(
        "an allowance goes when its reason goes",
        "take it out of BANS in tests/tidy/shape.rs",
        findings,
    );
}

#[test]
fn tests_are_named_as_sentences() {
    let mut findings = Vec::new();
    for file in files().into_iter().filter(|file| file.ends_with(".rs")) {
        let Some(syntax) = read(&file).and_then(|text| syn::parse_file(&text).ok()) else {
            continue;
        };
        let mut tests = Tests { names: Vec::new() };
        tests.visit_file(&syntax);
        for (line, name) in tests.names {
            if name.starts_with("test_") || name.split('_').count() < 3 {
                findings.push(Finding::on_line(&file, line, format!("fn {name}")));
            }
        }
    }
    none(
        "tests are named as sentences",
        "say what holds: `a_retry_across_takeover_keeps_its_seq`",
        findings,
    );
}

/// Collects the names of test functions.
struct Tests {
    names: Vec<(usize, String)>,
}

impl<'ast> Visit<'ast> for Tests {
    fn visit_item_fn(&mut self, function: &'ast syn::ItemFn) {
        let is_test = |attr: &syn::Attribute| {
            attr.path().segments.last().is_some_and(|last| last.ident == "test")
        };
        if function.attrs.iter().any(is_test) {
            self.names
                .push((function.sig.ident.span().start().line, function.sig.ident.to_string()));
        }
    }
}

#[test]
fn the_finder_of_paths_looks_into_imports_code_and_macros_but_not_into_tests() {
    let source = "
        use std::{net::{SocketAddr, TcpStream as Wire}, time};
        fn now() -> u64 { futures_util::select! { _ = time::Instant::now() => 1, _ = f(&[thread::spawn(g)]) => 2 } }
        #[cfg(test)]
        mod tests { use tokio::net::TcpListener; }
    ";
    let mut paths = Paths::default();
    paths.visit_file(&syn::parse_file(source).expect("it is Rust"));
    let banned = |ban: &&Ban| {
        paths
            .found
            .iter()
            .any(|(_, path)| path.windows(2).any(|two| two == [ban.path.0, ban.path.1]))
    };
    let found: Vec<_> = BANS.iter().filter(banned).map(|ban| ban.path).collect();
    assert_eq!(
        found,
        [("net", "TcpStream"), ("futures_util", "select"), ("thread", "spawn"), ("Instant", "now")],
        "of {:?}",
        paths.found
    );
}
