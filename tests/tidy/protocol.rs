//! `docs/openapi.yaml`, `docs/asyncapi.yaml` and `docs/protocol.md` against the code, both ways.
//!
//! The types of `wire::client` are read by a parser, not by serde, so that a field is seen even
//! when no example has it.

/// The two descriptions, as they stand in docs/.
mod described;
/// The page for people.
mod page;
/// The routes of the nodes.
mod routes;
/// The types of `wire::client`.
mod types;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use self::described::{Descriptions, name_of};
use self::types::{Field, Shape, Type};
use super::finding::{Finding, none};

const CURE: &str = "correct the description; if it is right, then the code broke a promise: names, fields and meanings that are out stay";

#[test]
fn every_type_is_described_field_by_field() {
    let described = Descriptions::load();
    let types = types::structs();
    let mut findings = Vec::new();
    for found in &types {
        match described.schemas.get(&found.name) {
            None => {
                findings.push(Finding::new(found.file, format!("{} has no schema", found.name)))
            }
            Some((file, schema)) => {
                let differences = differences(found, schema).into_iter();
                findings.extend(
                    differences.map(|what| Finding::new(*file, format!("{}: {what}", found.name))),
                );
            }
        }
    }
    for (name, (file, schema)) in &described.schemas {
        if schema.get("properties").is_some() && !types.iter().any(|found| found.name == *name) {
            findings.push(Finding::new(*file, format!("{name} is no type of wire::client")));
        }
    }
    none("the descriptions have the fields that the code has, and no others", CURE, findings);
}

/// Differences between a schema and its type.
fn differences(found: &Type, schema: &Value) -> Vec<String> {
    let none = serde_json::Map::new();
    let properties = schema["properties"].as_object().unwrap_or(&none);
    let required: BTreeSet<&str> =
        schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let mut out = Vec::new();
    for Field { name, shape, required: must, nullable } in &found.fields {
        let Some(property) = properties.get(name) else {
            out.push(format!("`{name}` is missing"));
            continue;
        };
        if let Err(what) = fits(shape, *nullable, property) {
            out.push(format!("`{name}` {what}"));
        }
        if *must != required.contains(name.as_str()) {
            out.push(format!("`{name}` is {}required", if *must { "" } else { "not " }));
        }
    }
    let unknown =
        properties.keys().filter(|name| !found.fields.iter().any(|field| field.name == **name));
    out.extend(unknown.map(|name| format!("`{name}` does not exist")));
    let unknown = required.iter().filter(|name| !properties.contains_key(**name));
    out.extend(unknown.map(|name| format!("`{name}` is required and has no property")));
    if found.strict != (schema.get("additionalProperties") == Some(&Value::Bool(false))) {
        out.push(format!(
            "unknown fields are {}",
            if found.strict { "refused" } else { "skipped" }
        ));
    }
    out
}

fn fits(shape: &Shape, nullable: bool, schema: &Value) -> Result<(), String> {
    let is = |wanted: &str| {
        let wanted_value =
            if nullable { serde_json::json!([wanted, "null"]) } else { serde_json::json!(wanted) };
        if schema["type"] == wanted_value {
            Ok(())
        } else {
            Err(format!("is {wanted_value}, not {}", schema["type"]))
        }
    };
    match shape {
        Shape::Text => is("string"),
        Shape::Number => is("integer"),
        Shape::Truth => is("boolean"),
        Shape::List(inner) => is("array").and_then(|()| fits(inner, false, &schema["items"])),
        Shape::Map(inner) => {
            is("object").and_then(|()| fits(inner, false, &schema["additionalProperties"]))
        }
        Shape::Named(name) if nullable => {
            let choices = schema["anyOf"].as_array().map(Vec::as_slice).unwrap_or_default();
            match choices {
                [named, null] if name_of(named) == Some(name) && null["type"] == "null" => Ok(()),
                _ => Err(format!("is a {name} or null")),
            }
        }
        Shape::Named(name) if name_of(schema) == Some(name) => Ok(()),
        Shape::Named(name) => Err(format!("is a {name}")),
        Shape::Any if schema.get("type").is_none() => Ok(()),
        Shape::Any => Err("may be any JSON".into()),
    }
}

#[test]
fn every_choice_has_the_words_of_the_code() {
    let described = Descriptions::load();
    let mut findings = Vec::new();
    for (name, words) in types::enums() {
        let said = described.schemas.get(&name).map(|(_, schema)| &schema["enum"]);
        let said: Option<BTreeSet<&str>> =
            said.and_then(|said| said.as_array()?.iter().map(Value::as_str).collect());
        if said != Some(words.iter().map(String::as_str).collect()) {
            findings.push(Finding::new(
                described::OPENAPI,
                format!("{name} is one of {}", words.join(", ")),
            ));
        }
    }
    none("a choice is described with all its words", CURE, findings);
}

#[test]
fn every_frame_is_described_with_its_payload() {
    let described = Descriptions::load();
    let mut findings = Vec::new();
    let heard: BTreeMap<_, _> = types::requests().into_iter().map(|kind| (kind, None)).collect();
    for (operation, envelope, frames) in
        [("hear", "ClientEnvelope", heard), ("tell", "Envelope", types::events())]
    {
        let mut say = |what: String| {
            findings.push(Finding::new(described::ASYNCAPI, format!("{operation}: {what}")))
        };
        let said: BTreeSet<String> = described.messages(operation);
        let has: BTreeSet<String> = frames.keys().cloned().collect();
        said.difference(&has).for_each(|kind| say(format!("`{kind}` does not exist")));
        has.difference(&said).for_each(|kind| say(format!("`{kind}` is missing")));
        for (kind, payload) in frames.iter().filter(|(kind, _)| said.contains(*kind)) {
            let message = &described.asyncapi["components"]["messages"][kind];
            let [base, own] = [0, 1].map(|part| &message["payload"]["allOf"][part]);
            if message["name"] != **kind || own["properties"]["type"]["const"] != **kind {
                say(format!("`{kind}` is called otherwise in its message"));
            }
            if name_of(base) != Some(envelope) {
                say(format!("`{kind}` stands in a {envelope}"));
            }
            if payload.is_some() && name_of(&own["properties"]["payload"]) != payload.as_deref() {
                say(format!("`{kind}` has a {}", payload.as_deref().unwrap_or_default()));
            }
        }
    }
    none("the descriptions have the frames that the code has, and no others", CURE, findings);
}

#[test]
fn every_route_is_described() {
    let described = Descriptions::load().routes();
    let offered = routes::offered();
    let mut findings: Vec<Finding> = Vec::new();
    for (route, file) in &offered {
        if !described.contains(route) {
            findings.push(Finding::new(file, format!("{route} is not in {}", described::OPENAPI)));
        }
    }
    for route in described.iter().filter(|route| !offered.contains_key(*route)) {
        findings.push(Finding::new(described::OPENAPI, format!("{route} is in no router")));
    }
    none("the description has the routes that the nodes have, and no others", CURE, findings);
}

#[test]
fn every_reference_in_a_description_leads_somewhere() {
    let described = Descriptions::load();
    let mut findings = Vec::new();
    for (file, reference) in described.references() {
        if described.resolve(file, &reference).is_none() {
            findings.push(Finding::new(file, format!("{reference} leads nowhere")));
        }
    }
    none("references lead somewhere", "correct the reference, or describe what it names", findings);
}

#[test]
fn every_example_is_read_and_printed_by_the_code_as_it_stands() {
    let described = Descriptions::load();
    let mut findings = Vec::new();
    for (name, (file, schema)) in
        described.schemas.iter().filter(|(_, (_, schema))| schema.get("properties").is_some())
    {
        let examples = schema["examples"].as_array().map(Vec::as_slice).unwrap_or_default();
        if examples.is_empty() {
            findings.push(Finding::new(*file, format!("{name} has no example")));
        }
        let wrong = examples.iter().filter_map(|example| types::round_trip(name, example).err());
        findings.extend(wrong.map(|what| Finding::new(*file, format!("{name}: {what}"))));
    }
    none("every type has an example, and the code takes it", "correct the example", findings);
}

#[test]
fn a_difference_between_a_type_and_its_schema_is_found_in_every_way_it_can_differ() {
    let field = |name: &str, shape, required, nullable| Field {
        name: name.into(),
        shape,
        required,
        nullable,
    };
    let fields = vec![
        field("seq", Shape::Number, true, false),
        field("name", Shape::Text, true, true),
        field("roles", Shape::Map(Box::new(Shape::Named("Role".into()))), false, false),
        field("gone", Shape::Truth, false, false),
    ];
    let found = Type { name: "T".into(), file: "t.rs", fields, strict: true };
    let right = serde_json::json!({
        "required": ["seq", "name"],
        "additionalProperties": false,
        "properties": {
            "seq": { "type": "integer" },
            "name": { "type": ["string", "null"] },
            "roles": { "type": "object", "additionalProperties": { "$ref": "#/components/schemas/Role" } },
            "gone": { "type": "boolean" },
        },
    });
    assert_eq!(differences(&found, &right), Vec::<String>::new());
    let wrong = serde_json::json!({
        "required": ["seq", "roles", "extra"],
        "properties": {
            "seq": { "type": "string" },
            "name": { "type": "string" },
            "roles": { "type": "object", "additionalProperties": { "$ref": "#/components/schemas/Rule" } },
            "more": { "type": "string" },
        },
    });
    assert_eq!(differences(&found, &wrong).len(), 9, "{:#?}", differences(&found, &wrong));
}
