use super::finding::{Finding, none};
use super::tree::{files, read};

/// The start of a path of one machine. Put together here, so that this file does not break its own
/// rule.
const MACHINE_PATHS: &[&str] =
    &[concat!("/", "root"), concat!("/", "home"), concat!("/", "work"), concat!("/", "Users")];

/// The only place from which crates come.
const CRATES_IO: &str = "registry+https://github.com/rust-lang/crates.io-index";

#[test]
fn no_file_names_a_path_of_one_machine() {
    let mut findings = Vec::new();
    for_each_line(|file, line, text| {
        for path in MACHINE_PATHS {
            if text.match_indices(path).any(|(at, _)| is_absolute(text, at, path.len())) {
                findings.push(Finding::on_line(file, line, format!("names {path}/…")));
            }
        }
    });
    none(
        "the tree knows no machine",
        "name it from the root of the tree, or let an argument or a variable of the environment say it",
        findings,
    );
}

/// Whether the path at this place starts at the root of a file system: not the middle of a URL or
/// of a longer path.
fn is_absolute(text: &str, at: usize, len: usize) -> bool {
    let before = text[..at].chars().next_back();
    let after = text[at + len..].chars().next();
    let starts = before.is_none_or(|c| !(c.is_alphanumeric() || "_-./}~*".contains(c)));
    starts && after == Some('/')
}

#[test]
fn crates_come_from_crates_io_and_from_nowhere_else() {
    let mut findings = Vec::new();
    for_each_line(|file, line, text| {
        let text = text.trim();
        let is_cargo = file.ends_with(".toml") || file == "Cargo.lock";
        let source = text.strip_prefix("source = ").map(|source| source.trim_matches('"'));
        let foreign_source =
            file == "Cargo.lock" && source.is_some_and(|source| source != CRATES_IO);
        let configured = ["[source", "[registr", "replace-with", "registry ="]
            .iter()
            .any(|start| text.starts_with(start));
        let named = text.contains(concat!("sparse", "+"));
        if foreign_source || named || (is_cargo && configured) {
            findings.push(Finding::on_line(file, line, "names a registry"));
        }
    });
    none(
        "a fresh clone builds with nothing but crates.io",
        "keep mirrors and registries in the configuration of the machine that has them",
        findings,
    );
}

#[test]
fn no_file_hides_characters() {
    let mut findings = Vec::new();
    for_each_line(|file, line, text| {
        if let Some(hidden) = text.chars().find(|c| is_hidden(*c)) {
            findings.push(Finding::on_line(file, line, format!("has U+{:04X}", u32::from(hidden))));
        }
    });
    none(
        "what is in a file can be seen",
        "write it as an escape (`\\u{200b}`), end lines with a line feed alone, or take it out",
        findings,
    );
}

/// Control characters, and those that are invisible or turn the direction of what follows.
fn is_hidden(c: char) -> bool {
    let invisible = matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}');
    invisible || (c.is_control() && c != '\t')
}

fn for_each_line(mut visit: impl FnMut(&str, usize, &str)) {
    for file in files() {
        let Some(text) = read(&file) else { continue };
        for (at, line) in text.split('\n').enumerate() {
            visit(&file, at + 1, line);
        }
    }
}

#[test]
fn a_path_of_a_machine_is_told_from_a_url_and_from_a_longer_path() {
    let home = MACHINE_PATHS[1];
    let named =
        |text: &str| text.match_indices(home).any(|(at, _)| is_absolute(text, at, home.len()));
    assert!(
        named(&format!("cd {home}/me"))
            && named(&format!("\"{home}/me\""))
            && named(&format!("{home}/"))
    );
    assert!(!named(&format!("https://example.org{home}/me")) && !named(&format!("GET {home}")));
}
