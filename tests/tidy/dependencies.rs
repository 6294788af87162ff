use std::collections::BTreeSet;

use cargo_metadata::DependencyKind::Normal;

use super::finding::{Finding, none};
use super::tree::{Member, files, members, read, workspace_dependencies};

const EXPLAINED: &str = "docs/dependencies.md";

/// The outside crates that have a line: a table row that starts with the name in backticks, and
/// what follows it.
fn explained() -> Vec<(usize, String, Vec<String>)> {
    let text = read(EXPLAINED).unwrap_or_default();
    let row = |(at, line): (usize, &str)| {
        let mut cells = line
            .trim()
            .strip_prefix('|')?
            .trim_end_matches('|')
            .split('|')
            .map(|cell| cell.trim().to_owned());
        let name = cells.next()?.strip_prefix('`')?.strip_suffix('`')?.to_owned();
        Some((at + 1, name, cells.collect()))
    };
    text.lines().enumerate().filter_map(row).collect()
}

fn outside() -> BTreeSet<String> {
    workspace_dependencies().into_iter().filter(|(_, ours)| !ours).map(|(name, _)| name).collect()
}

#[test]
fn every_outside_crate_is_explained_in_one_line() {
    let explained = explained();
    let outside = outside();
    let mut findings = Vec::new();
    for name in &outside {
        if !explained.iter().any(|(_, explained, _)| explained == name) {
            findings
                .push(Finding::new("Cargo.toml", format!("`{name}` has no line in {EXPLAINED}")));
        }
    }
    let mut seen = BTreeSet::new();
    for (line, name, cells) in &explained {
        let wrong = if !outside.contains(name) {
            Some("is no dependency of this workspace")
        } else if !seen.insert(name) {
            Some("stands here twice")
        } else if cells.len() != 2 || cells.iter().any(String::is_empty) {
            Some("needs two cells: what for, and why this one")
        } else {
            None
        };
        findings.extend(
            wrong.map(|wrong| Finding::on_line(EXPLAINED, *line, format!("`{name}` {wrong}"))),
        );
    }
    none(
        "docs/dependencies.md explains the outside crates of the root manifest, and nothing else",
        "a line `| name | what for | why this one |` for each, with the name in backticks; take the line of a dropped one out",
        findings,
    );
}

#[test]
fn every_version_of_the_workspace_is_wanted_by_some_crate() {
    let members = members();
    let wanted: BTreeSet<&str> =
        members.iter().flat_map(|member| &member.deps).map(|dep| dep.name.as_str()).collect();
    let unwanted =
        workspace_dependencies().into_iter().filter(|(name, _)| !wanted.contains(name.as_str()));
    none(
        "the root manifest names only versions that some crate asks for",
        "take it out of [workspace.dependencies] and out of docs/dependencies.md; it comes back with the code that needs it",
        unwanted
            .map(|(name, _)| Finding::new("Cargo.toml", format!("nobody depends on `{name}`")))
            .collect(),
    );
}

#[test]
fn every_dependency_of_a_crate_is_named_in_its_source() {
    let files = files();
    let mut findings = Vec::new();
    for member in members() {
        let texts = |only: &str| -> Vec<String> {
            member
                .sources(&files)
                .iter()
                .filter(|file| file.starts_with(only))
                .filter_map(|file| read(file))
                .collect()
        };
        let (product, all) = (texts(&format!("{}/src/", member.dir)), texts(&member.dir));
        for dep in &member.deps {
            let sources = if dep.kind == Normal { &product } else { &all };
            if !sources.iter().any(|text| names(text, &dep.name.replace('-', "_"))) {
                findings.push(Finding::new(
                    member.manifest(),
                    format!("`{}` is never named", dep.name),
                ));
            }
        }
    }
    none(
        "a crate depends only on what it uses",
        "take the dependency out of its manifest; what only tests use is a dev-dependency",
        findings,
    );
}

/// Whether a source names a crate: `name::…`, `use name;`, `use name as …`.
fn names(text: &str, name: &str) -> bool {
    text.match_indices(name).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        let after = &text[at + name.len()..];
        let inside_a_word = before.is_some_and(|c| c.is_alphanumeric() || c == '_');
        let imported =
            text[..at].ends_with("use ") && (after.starts_with(';') || after.starts_with(" as "));
        !inside_a_word && (after.starts_with("::") || imported)
    })
}

#[test]
fn crates_take_their_versions_from_the_workspace() {
    let mut findings = Vec::new();
    for member in members() {
        let manifest = read(&member.manifest()).expect("a member has a manifest");
        let manifest: toml::Table = manifest.parse().expect("cargo took it");
        for section in ["dependencies", "dev-dependencies", "build-dependencies"] {
            findings.extend(own_versions(&member, manifest.get(section)));
        }
        let inherits = manifest.get("lints").and_then(|lints| lints.get("workspace"))
            == Some(&toml::Value::Boolean(true));
        if !inherits {
            findings.push(Finding::new(member.manifest(), "has lints of its own"));
        }
    }
    none(
        "versions, features and lints are set once, in the root manifest",
        "write `name = { workspace = true }`, and `[lints] workspace = true`",
        findings,
    );
}

fn own_versions(member: &Member, section: Option<&toml::Value>) -> Vec<Finding> {
    let entries = section.and_then(toml::Value::as_table).into_iter().flatten();
    let own = entries.filter(|(_, value)| {
        value.get("version").is_some() || value.get("path").is_some() || value.is_str()
    });
    own.map(|(name, _)| {
        Finding::new(member.manifest(), format!("`{name}` has a version of its own"))
    })
    .collect()
}

#[test]
fn a_crate_is_named_by_its_paths_and_imports_only() {
    assert!(
        names("use rand::Rng;", "rand")
            && names("use mesh;", "mesh")
            && names("x(serde_json::json!(1))", "serde_json")
    );
    assert!(!names("let brand::x = 1; // rand", "rand") && !names("use mesh_of::x;", "mesh"));
}
