use std::collections::BTreeMap;

use serde_json::Value;
use syn::visit::{self, Visit};

use crate::tidy::tree::read;

const EVENT: &str = "crates/wire/src/client/event.rs";
const CONTENT: &str = "crates/wire/src/client/content.rs";
const HTTP: &str = "crates/wire/src/client/http.rs";
const REQUEST: &str = "crates/wire/src/client/request.rs";
const CLOSE: &str = "crates/wire/src/client/close.rs";

/// The files that define the choices in frames.
const CHOICES: &[(&str, &str)] = &[
    ("crates/wire/src/code.rs", "ErrorCode"),
    ("crates/wire/src/ids/shard.rs", "Durability"),
    ("crates/wire/src/ids/conversation.rs", "ConversationKind"),
    ("crates/wire/src/change/membership.rs", "Role"),
];

/// A struct that travels as JSON.
pub(super) struct Type {
    /// As in the descriptions.
    pub(super) name: String,
    pub(super) file: &'static str,
    pub(super) fields: Vec<Field>,
    /// Whether unknown fields are refused.
    pub(super) strict: bool,
}

pub(super) struct Field {
    pub(super) name: String,
    pub(super) shape: Shape,
    /// A sender must say it; a reader may rely on it.
    pub(super) required: bool,
    /// Always there, and sometimes null.
    pub(super) nullable: bool,
}

pub(super) enum Shape {
    Text,
    Number,
    Truth,
    List(Box<Shape>),
    Map(Box<Shape>),
    /// Has a schema of its own.
    Named(String),
    Any,
}

fn parse(file: &str) -> syn::File {
    let text = read(file)
        .unwrap_or_else(|| panic!("{file} is missing: tests/tidy/protocol/types.rs looks for it"));
    syn::parse_file(&text).unwrap_or_else(|error| panic!("{file} is no Rust: {error}"))
}

/// Every struct of `wire::client` that serde reads or prints.
pub(super) fn structs() -> Vec<Type> {
    let items: Vec<(&'static str, syn::ItemStruct)> = [CONTENT, EVENT, HTTP, REQUEST]
        .into_iter()
        .flat_map(|file| parse(file).items.into_iter().map(move |item| (file, item)))
        .filter_map(|(file, item)| match item {
            syn::Item::Struct(item) => Some((file, item)),
            _ => None,
        })
        .filter(|(_, item)| has(&item.attrs, "derive", &["Serialize", "Deserialize"]))
        .filter(|(_, item)| !has(&item.attrs, "serde", &["transparent"]))
        .collect();
    items.iter().map(|(file, item)| read_struct(file, item, &items)).collect()
}

fn read_struct(
    file: &'static str,
    item: &syn::ItemStruct,
    all: &[(&'static str, syn::ItemStruct)],
) -> Type {
    let strict = has(&item.attrs, "serde", &["deny_unknown_fields"]);
    let from_client = strict || file == REQUEST || file == CONTENT;
    let generics: Vec<String> =
        item.generics.type_params().map(|param| param.ident.to_string()).collect();
    let name = match item.ident.to_string().as_str() {
        "RawEnvelope" => "ClientEnvelope".to_owned(),
        name => name.to_owned(),
    };
    let fields = item.fields.iter().flat_map(|field| flattened(field, all));
    let fields = fields.map(|field| read_field(field, from_client, strict, &generics)).collect();
    Type { name, file, fields, strict }
}

/// The fields that stand in the object: those of its own struct in place of a flattened one.
fn flattened<'a>(
    field: &'a syn::Field,
    all: &'a [(&'static str, syn::ItemStruct)],
) -> Vec<&'a syn::Field> {
    if !has(&field.attrs, "serde", &["flatten"]) {
        return vec![field];
    }
    let (name, _) = argument(&field.ty).expect("fields have the type of a path");
    let inner = all.iter().find(|(_, item)| item.ident == name);
    let (_, inner) = inner.unwrap_or_else(|| panic!("{name} is no type of wire::client"));
    inner.fields.iter().collect()
}

fn read_field(field: &syn::Field, from_client: bool, strict: bool, generics: &[String]) -> Field {
    let ident = field.ident.as_ref().expect("what travels as JSON has named fields").to_string();
    let name = renamed(&field.attrs, "rename")
        .unwrap_or_else(|| ident.trim_start_matches("r#").to_owned());
    let optional = argument(&field.ty).is_some_and(|(outer, _)| outer == "Option");
    let left_out = has(&field.attrs, "serde", &["skip_serializing_if"]);
    let required = if from_client {
        !optional && !has(&field.attrs, "serde", &["default"])
    } else {
        !left_out
    };
    // serde takes null for a field that may be left out.
    let nullable = optional && (required || strict);
    Field { name, shape: shape(&field.ty, generics), required, nullable }
}

/// The name of a type and the last of its type arguments.
fn argument(ty: &syn::Type) -> Option<(String, Option<&syn::Type>)> {
    let syn::Type::Path(path) = ty else { return None };
    let last = path.path.segments.last()?;
    let inner = match &last.arguments {
        syn::PathArguments::AngleBracketed(list) => {
            list.args.iter().rev().find_map(|argument| match argument {
                syn::GenericArgument::Type(ty) => Some(ty),
                _ => None,
            })
        }
        _ => None,
    };
    Some((last.ident.to_string(), inner))
}

fn shape(ty: &syn::Type, generics: &[String]) -> Shape {
    if let syn::Type::Reference(reference) = ty {
        return shape(&reference.elem, generics);
    }
    let (name, inner) = argument(ty).expect("fields have the type of a path");
    let inner = |what: &str| {
        Box::new(shape(inner.unwrap_or_else(|| panic!("{what} of something")), generics))
    };
    match name.as_str() {
        "String" | "SmolStr" | "Cow" => Shape::Text,
        "u8" | "u16" | "u32" | "u64" | "usize" => Shape::Number,
        "bool" => Shape::Truth,
        "Vec" => Shape::List(inner("a list")),
        "BTreeMap" => Shape::Map(inner("a map")),
        "Option" | "Box" => *inner("a box"),
        "Value" | "RawValue" | "Meta" => Shape::Any,
        name if generics.iter().any(|generic| generic == name) => Shape::Any,
        name => Shape::Named(name.to_owned()),
    }
}

/// Whether one of the attributes of this name has one of these words.
fn has(attrs: &[syn::Attribute], name: &str, words: &[&str]) -> bool {
    attrs.iter().filter(|attr| attr.path().is_ident(name)).any(|attr| {
        let syn::Meta::List(list) = &attr.meta else { return false };
        let tokens = list.tokens.to_string();
        tokens.split(|c: char| !c.is_alphanumeric() && c != '_').any(|found| words.contains(&found))
    })
}

/// The text of `#[serde(key = "text")]`.
fn renamed(attrs: &[syn::Attribute], key: &str) -> Option<String> {
    attrs.iter().filter(|attr| attr.path().is_ident("serde")).find_map(|attr| {
        let syn::Meta::List(list) = &attr.meta else { return None };
        let tokens = list.tokens.to_string();
        let after = tokens.split(&format!("{key} = \"")).nth(1)?;
        Some(after.split('"').next()?.to_owned())
    })
}

/// The choices that appear in frames, with the words for them.
pub(super) fn enums() -> Vec<(String, Vec<String>)> {
    let words = |(file, name): &(&str, &str)| {
        let choice = parse(file).items.into_iter().find_map(|item| match item {
            syn::Item::Enum(item) if item.ident == name => Some(item),
            _ => None,
        });
        let choice = choice.unwrap_or_else(|| panic!("{file} has no enum {name}"));
        let style = renamed(&choice.attrs, "rename_all").expect("choices say how they are printed");
        let words =
            choice.variants.iter().map(|variant| in_style(&variant.ident.to_string(), &style));
        ((*name).to_owned(), words.collect())
    };
    CHOICES.iter().map(words).collect()
}

fn in_style(name: &str, style: &str) -> String {
    let between = match style {
        "snake_case" => "_",
        "kebab-case" => "-",
        "lowercase" => "",
        other => panic!("rename_all = {other:?} is not known to tests/tidy/protocol/types.rs"),
    };
    let mut out = String::new();
    for (at, c) in name.char_indices() {
        if at > 0 && c.is_uppercase() {
            out.push_str(between);
        }
        out.extend(c.to_lowercase());
    }
    out
}

/// The types of frames that `Request::parse` knows.
pub(super) fn requests() -> Vec<String> {
    let mut arms = Arms { found: Vec::new() };
    arms.visit_file(&parse(REQUEST));
    arms.found.into_iter().map(|(kind, _)| kind).collect()
}

/// The types of frames that `event::parse` knows, with the types of their payloads.
pub(super) fn events() -> BTreeMap<String, Option<String>> {
    let file = parse(EVENT);
    let mut arms = Arms { found: Vec::new() };
    arms.visit_file(&file);
    let events = file.items.iter().find_map(|item| match item {
        syn::Item::Enum(item) if item.ident == "Event" => Some(item),
        _ => None,
    });
    let payload = |variant: &Option<String>| {
        let variants = &events.expect("wire::client has its events").variants;
        let found = variants.iter().find(|found| Some(found.ident.to_string()) == *variant)?;
        Some(argument(&found.fields.iter().next()?.ty)?.0)
    };
    arms.found.into_iter().map(|(kind, variant)| (kind, payload(&variant))).collect()
}

/// Collects the arms `"text" => Enum::Variant(…)` outside tests.
struct Arms {
    found: Vec<(String, Option<String>)>,
}

impl<'ast> Visit<'ast> for Arms {
    fn visit_item_mod(&mut self, module: &'ast syn::ItemMod) {
        if module.ident != "tests" {
            visit::visit_item_mod(self, module);
        }
    }

    fn visit_arm(&mut self, arm: &'ast syn::Arm) {
        if let syn::Pat::Lit(syn::ExprLit { lit: syn::Lit::Str(text), .. }) = &arm.pat {
            let variant = match &*arm.body {
                syn::Expr::Call(call) => match &*call.func {
                    syn::Expr::Path(path) => {
                        path.path.segments.last().map(|last| last.ident.to_string())
                    }
                    _ => None,
                },
                _ => None,
            };
            self.found.push((text.value(), variant));
        }
        visit::visit_arm(self, arm);
    }
}

/// The close codes.
pub(super) fn close_codes() -> Vec<u16> {
    let code = |item: syn::Item| match item {
        syn::Item::Const(syn::ItemConst { expr, .. }) => match *expr {
            syn::Expr::Lit(syn::ExprLit { lit: syn::Lit::Int(number), .. }) => {
                number.base10_parse().ok()
            }
            _ => None,
        },
        _ => None,
    };
    parse(CLOSE).items.into_iter().filter_map(code).collect()
}

macro_rules! round_trips {
    ($($module:ident::$name:ident),* $(,)?) => {
        /// Reads an example as the type of that name and prints it again.
        pub(super) fn round_trip(name: &str, example: &Value) -> Result<(), String> {
            let printed = match name {
                $(stringify!($name) => serde_json::from_value::<wire::client::$module::$name>(example.clone())
                    .and_then(serde_json::to_value),)*
                "Envelope" => serde_json::from_value::<wire::client::Envelope<Value>>(example.clone())
                    .and_then(serde_json::to_value),
                "ClientEnvelope" => return wire::client::Request::parse(&example.to_string())
                    .map(drop)
                    .map_err(|error| format!("{example}: {error}")),
                _ => return Err("tests/tidy/protocol/types.rs knows no type of this name: add it to round_trips!".into()),
            };
            match printed {
                Ok(printed) if printed == *example => Ok(()),
                Ok(printed) => Err(format!("{example} comes out as {printed}")),
                Err(error) => Err(format!("{example}: {error}")),
            }
        }
    };
}

round_trips! {
    event::Hello, event::HelloLimits, event::AckPayload, event::MessagePayload, event::GroupPayload,
    event::JoinedPayload, event::LeftPayload, event::UpdatedPayload, event::AddedPayload,
    event::MemberPayload, event::BehindPayload, event::SyncDonePayload, event::GoawayPayload, event::ErrorPayload,
    event::PongPayload,
    http::StreamTokenRequest, http::StreamTokenResponse, http::OpenConversation, http::CreateGroup,
    http::ChangeMembers, http::PostMessage, http::HistoryResponse, http::InboxResponse, http::InboxEntry, http::LimitsResponse,
    http::Problem,
    content::MessageContent, request::SyncPayload,
}
