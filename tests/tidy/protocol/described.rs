use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::tidy::tree::read;

pub(super) const OPENAPI: &str = "docs/openapi.yaml";
pub(super) const ASYNCAPI: &str = "docs/asyncapi.yaml";

const METHODS: [&str; 5] = ["get", "post", "put", "patch", "delete"];

pub(super) struct Descriptions {
    pub(super) openapi: Value,
    pub(super) asyncapi: Value,
    /// The schemas of both files by name, with the file. No name stands in both.
    pub(super) schemas: BTreeMap<String, (&'static str, Value)>,
}

/// The last part of a `$ref`.
pub(super) fn name_of(schema: &Value) -> Option<&str> {
    schema["$ref"].as_str()?.rsplit('/').next()
}

fn load(file: &str) -> Value {
    let text = read(file).unwrap_or_else(|| panic!("{file} is missing"));
    serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{file} is no YAML: {error}"))
}

impl Descriptions {
    pub(super) fn load() -> Self {
        let (openapi, asyncapi) = (load(OPENAPI), load(ASYNCAPI));
        let mut schemas = BTreeMap::new();
        for (file, document) in [(OPENAPI, &openapi), (ASYNCAPI, &asyncapi)] {
            for (name, schema) in
                document["components"]["schemas"].as_object().into_iter().flatten()
            {
                let before = schemas.insert(name.clone(), (file, schema.clone()));
                assert!(
                    before.is_none(),
                    "{name} is described twice: refer to {OPENAPI} from {ASYNCAPI}"
                );
            }
        }
        Self { openapi, asyncapi, schemas }
    }

    /// The types of the frames of an operation.
    pub(super) fn messages(&self, operation: &str) -> BTreeSet<String> {
        let messages = self.asyncapi["operations"][operation]["messages"].as_array();
        messages
            .into_iter()
            .flatten()
            .filter_map(|message| Some(name_of(message)?.to_owned()))
            .collect()
    }

    /// `METHOD /path`, with parameters as `{}`.
    pub(super) fn routes(&self) -> BTreeSet<String> {
        let mut routes = BTreeSet::new();
        for (path, item) in self.openapi["paths"].as_object().into_iter().flatten() {
            let methods = METHODS.iter().filter(|method| item.get(**method).is_some());
            routes.extend(methods.map(|method| super::routes::route(method, path)));
        }
        routes
    }

    /// Every `$ref` of both files, with its file.
    pub(super) fn references(&self) -> Vec<(&'static str, String)> {
        let mut references = Vec::new();
        for (file, document) in [(OPENAPI, &self.openapi), (ASYNCAPI, &self.asyncapi)] {
            let mut open = vec![document];
            while let Some(value) = open.pop() {
                match value {
                    Value::Object(map) => {
                        references.extend(
                            map.get("$ref").and_then(Value::as_str).map(|to| (file, to.to_owned())),
                        );
                        open.extend(map.values());
                    }
                    Value::Array(list) => open.extend(list),
                    _ => {}
                }
            }
        }
        references
    }

    /// Resolves a reference in that file.
    pub(super) fn resolve(&self, file: &str, reference: &str) -> Option<&Value> {
        let (other, pointer) = reference.split_once('#')?;
        let document = match (other, file) {
            ("./openapi.yaml", ASYNCAPI) | ("", OPENAPI) => &self.openapi,
            ("", ASYNCAPI) => &self.asyncapi,
            _ => return None,
        };
        document.pointer(pointer)
    }
}
