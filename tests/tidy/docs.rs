use std::path::{Component, Path, PathBuf};

use super::finding::{Finding, none};
use super::tree::{exists, files, members, read};

/// The page that walks one message through the system.
const WALK: &str = "docs/architecture.md";

fn pages() -> Vec<String> {
    files().into_iter().filter(|file| file.ends_with(".md")).collect()
}

#[test]
fn documents_link_only_to_what_exists() {
    let mut findings = Vec::new();
    for page in pages() {
        for (line, target) in links(&read(&page).unwrap_or_default()) {
            let path = target.split('#').next().unwrap_or_default();
            let outside = target.contains("://") || target.starts_with("mailto:");
            if !outside
                && !path.is_empty()
                && !resolve(&page, path).is_some_and(|path| exists(&path))
            {
                findings.push(Finding::on_line(
                    &page,
                    line,
                    format!("links to {target}, which does not exist"),
                ));
            }
        }
    }
    none(
        "documents link only to what exists",
        "correct the link (it starts at the folder of the page)",
        findings,
    );
}

#[test]
fn documents_name_only_paths_that_exist() {
    let tops: Vec<String> =
        files().iter().filter_map(|file| Some(file.split_once('/')?.0.to_owned())).collect();
    let mut findings = Vec::new();
    for page in pages() {
        for (line, word) in words_in_code(&read(&page).unwrap_or_default()) {
            let path = word.trim_start_matches("./").trim_end_matches('/');
            let ours =
                path.split_once('/').is_some_and(|(top, _)| tops.iter().any(|known| known == top));
            if ours && is_plain(path) && !exists(path) {
                findings.push(Finding::on_line(
                    &page,
                    line,
                    format!("names {word}, which does not exist"),
                ));
            }
        }
    }
    none(
        "documents name only paths that exist",
        "correct the path (it starts at the root of the tree)",
        findings,
    );
}

#[test]
fn the_walk_of_a_message_leads_into_every_part() {
    let text = read(WALK).unwrap_or_default();
    let targets: Vec<String> = links(&text)
        .into_iter()
        .filter_map(|(_, target)| resolve(WALK, target.split('#').next().unwrap_or_default()))
        .collect();
    let missing = members().into_iter().filter(|member| {
        let folder = format!("{}/", member.dir);
        member.name != "stories"
            && !targets.iter().any(|target| target.starts_with(&folder) || *target == member.dir)
    });
    none(
        "docs/architecture.md links to a file of every crate",
        "say where on a message's way the crate stands, with a link to the file where that begins",
        missing.map(|member| Finding::new(WALK, format!("no link into {}", member.dir))).collect(),
    );
}

/// The targets of `[text](target)`, with their lines. Code is left out.
fn links(text: &str) -> Vec<(usize, String)> {
    let mut links = Vec::new();
    for (line, text, fenced) in lines(text) {
        let prose: String = if fenced {
            String::new()
        } else {
            text.split('`').step_by(2).collect::<Vec<_>>().join("`")
        };
        for (at, _) in prose.match_indices("](") {
            if let Some((target, _)) = prose[at + 2..].split_once(')') {
                links.push((line, target.split_whitespace().next().unwrap_or_default().to_owned()));
            }
        }
    }
    links
}

/// The words in backticks and in fences, with their lines.
fn words_in_code(text: &str) -> Vec<(usize, String)> {
    let mut words = Vec::new();
    for (line, text, fenced) in lines(text) {
        let code: Vec<&str> =
            if fenced { vec![text] } else { text.split('`').skip(1).step_by(2).collect() };
        let found = code.iter().flat_map(|code| code.split_whitespace());
        words.extend(
            found.map(|word| (line, word.trim_end_matches([',', ';', ':', ')']).to_owned())),
        );
    }
    words
}

/// Each line with its number and whether it stands inside a fence; the fences themselves are left
/// out.
fn lines(text: &str) -> Vec<(usize, &str, bool)> {
    let mut fenced = false;
    let mut lines = Vec::new();
    for (at, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else {
            lines.push((at + 1, line, fenced));
        }
    }
    lines
}

/// Whether it is one path, and not a pattern, a placeholder or a path with a line number.
fn is_plain(path: &str) -> bool {
    path.chars().all(|c| c.is_ascii_alphanumeric() || "_-./".contains(c)) && !path.contains("NNNN")
}

/// A link's target from the root of the tree; none when it leads out of it.
fn resolve(page: &str, target: &str) -> Option<String> {
    let mut path: PathBuf = Path::new(page).parent()?.into();
    for part in Path::new(target).components() {
        match part {
            Component::ParentDir => path = path.parent()?.into(),
            Component::Normal(part) => path.push(part),
            Component::CurDir => {}
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(path.to_str()?.replace('\\', "/"))
}

#[test]
fn the_finders_of_links_and_paths_tell_prose_from_code() {
    let page = "See [`a`](b/c.md#d \"title\"), not `[x](y)`; run `hearth up --world topology/worlds/x.toml`.\n```sh\ncat docs/z.md, [q](r)\n```\n";
    assert_eq!(links(page), [(1, "b/c.md#d".to_owned())]);
    let paths: Vec<String> = words_in_code(page)
        .into_iter()
        .map(|(_, word)| word)
        .filter(|word| word.contains('/'))
        .collect();
    assert_eq!(paths, ["topology/worlds/x.toml", "docs/z.md"]);
    assert_eq!(
        resolve("docs/decisions/0001.md", "../../crates/wire").as_deref(),
        Some("crates/wire")
    );
    assert_eq!(resolve("README.md", "../outside"), None);
}
