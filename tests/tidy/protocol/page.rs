use serde_json::{Deserializer, Value};

use super::described::Descriptions;
use super::types;
use crate::tidy::finding::{Finding, none};
use crate::tidy::tree::read;

const PAGE: &str = "docs/protocol.md";

fn page() -> String {
    read(PAGE).unwrap_or_default()
}

/// The first two cells of every table row whose first cell is in backticks.
fn rows(page: &str) -> Vec<(String, String)> {
    let row = |line: &str| {
        let mut cells = line.trim().strip_prefix('|')?.split('|').map(str::trim);
        let first = cells.next()?.strip_prefix('`')?.strip_suffix('`')?;
        Some((first.to_owned(), cells.next()?.to_owned()))
    };
    page.lines().filter_map(row).collect()
}

#[test]
fn the_page_lists_every_error_and_close_code() {
    let rows = rows(&page());
    let mut findings = Vec::new();
    let codes = types::enums()
        .into_iter()
        .find(|(name, _)| name == "ErrorCode")
        .expect("there are errors")
        .1;
    for word in codes {
        let code: wire::ErrorCode =
            serde_json::from_value(Value::String(word.clone())).expect("serde prints as it reads");
        let status = code.http_status().to_string();
        if !rows.contains(&(word.clone(), status.clone())) {
            findings.push(Finding::new(PAGE, format!("no row | `{word}` | {status} | …")));
        }
    }
    for code in types::close_codes() {
        if !rows.iter().any(|(first, _)| *first == code.to_string()) {
            findings.push(Finding::new(PAGE, format!("no row | `{code}` | …")));
        }
    }
    none("docs/protocol.md says what every code means", "give it a row", findings);
}

#[test]
fn the_page_speaks_of_every_frame_and_every_route() {
    let page = page();
    let mut findings = Vec::new();
    let frames = types::requests().into_iter().chain(types::events().into_keys());
    for kind in frames.filter(|kind| !page.contains(&format!("`{kind}`"))) {
        findings.push(Finding::new(PAGE, format!("does not speak of `{kind}`")));
    }
    let described = Descriptions::load();
    for path in described.openapi["paths"].as_object().into_iter().flat_map(|paths| paths.keys()) {
        if !page.contains(path.as_str()) {
            findings.push(Finding::new(PAGE, format!("does not speak of {path}")));
        }
    }
    none(
        "docs/protocol.md tells the whole protocol",
        "say what it is for, with an example where one helps",
        findings,
    );
}

#[test]
fn the_examples_of_the_page_are_taken_by_the_code() {
    let mut findings = Vec::new();
    for (line, label, text) in fences(&page()) {
        let mut words = label.split_whitespace();
        if words.next() != Some("json") {
            continue;
        }
        let name = words.next();
        for value in Deserializer::from_str(&text).into_iter::<Value>() {
            let wrong = match (value, name) {
                (Err(error), _) => Some(error.to_string()),
                (Ok(value), Some(name)) => types::round_trip(name, &value).err(),
                (Ok(value), None) => (!is_frame(&value)).then(|| format!("{value} is no frame")),
            };
            findings.extend(wrong.map(|wrong| Finding::on_line(PAGE, line, wrong)));
        }
    }
    none(
        "the examples of docs/protocol.md are taken by the code",
        "correct the example; a fence ```json holds frames, a fence ```json TypeName a body of HTTP",
        findings,
    );
}

fn is_frame(value: &Value) -> bool {
    let text = value.to_string();
    let known = |event: &wire::client::Event| !matches!(event, wire::client::Event::Unknown(_));
    wire::client::Request::parse(&text).is_ok()
        || wire::client::event::parse(&text).is_ok_and(|(_, event)| known(&event))
}

/// The fences of a page: line, label and text.
fn fences(page: &str) -> Vec<(usize, String, String)> {
    let mut fences: Vec<(usize, String, String)> = Vec::new();
    let mut inside = false;
    for (at, line) in page.lines().enumerate() {
        match line.trim_start().strip_prefix("```") {
            Some(label) => {
                inside = !inside;
                if inside {
                    fences.push((at + 1, label.to_owned(), String::new()));
                }
            }
            None if inside => {
                let (_, _, text) = fences.last_mut().expect("inside a fence there is a fence");
                text.push_str(line);
                text.push('\n');
            }
            None => {}
        }
    }
    fences
}
