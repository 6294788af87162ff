use std::collections::{BTreeMap, BTreeSet};

use syn::visit::Visit as _;

use super::finding::{Finding, none};
use super::shape::{Paths, Source, product};
use super::tree::{Member, files, members};

/// Files that need each other can only be understood together.
const CIRCLE_FILES_MAX: usize = 3;

/// Crates whose largest circle is still longer, with its files. A number here may only become
/// smaller.
const LARGER: &[(&str, usize)] = &[];

/// A file of a crate, as the path of its module: `a::b` is `["a", "b"]`, the root is `[]`.
type Module = Vec<String>;

#[test]
fn no_more_than_three_files_need_each_other() {
    let files = files();
    let mut findings = Vec::new();
    for member in members() {
        let allowed = LARGER.iter().find(|(name, _)| *name == member.name);
        let allowed = allowed.map_or(CIRCLE_FILES_MAX, |(_, files)| *files);
        let graph = graph(&member, &product(&member, &files));
        for circle in circles(&graph) {
            if circle.len() > allowed {
                let names: Vec<String> = circle.iter().map(|module| module.join("::")).collect();
                let what =
                    format!("{} files, {allowed} at most: {}", circle.len(), names.join(", "));
                findings.push(Finding::new(format!("{}/src", member.dir), what));
            } else if circle.len() > CIRCLE_FILES_MAX {
                println!("{}: a circle of {}, excused up to {allowed}", member.name, circle.len());
            }
        }
    }
    none(
        "files form no circles of more than three (a parent and its child do not count)",
        "move the type that both sides name into a file below them, or pass a closure or an effect up",
        findings,
    );
}

/// The modules that each module names. Parents and children may name each other: they are one room.
fn graph(member: &Member, sources: &[Source]) -> BTreeMap<Module, BTreeSet<Module>> {
    let modules: BTreeMap<Module, &Source> = sources
        .iter()
        .filter_map(|source| Some((module_of(member, &source.file)?, source)))
        .collect();
    let mut graph = BTreeMap::new();
    for (module, source) in &modules {
        let mut paths = Paths::default();
        paths.visit_file(&source.syntax);
        let named = paths.found.iter().filter_map(|(_, path)| absolute(module, path));
        let named = named.filter_map(|path| deepest(&path, |prefix| modules.contains_key(prefix)));
        let named = named.filter(|other| !other.starts_with(module) && !module.starts_with(other));
        graph.insert(module.clone(), named.collect());
    }
    graph
}

/// None for a program beside the crate.
fn module_of(member: &Member, file: &str) -> Option<Module> {
    let path = file.strip_prefix(&format!("{}/src/", member.dir))?.strip_suffix(".rs")?;
    match path {
        "lib" | "main" => Some(Vec::new()),
        _ if path.starts_with("bin/") => None,
        _ => Some(path.split('/').map(str::to_owned).collect()),
    }
}

/// A path that begins with `crate`, `self` or `super`, from the root of the crate.
fn absolute(module: &[String], path: &[String]) -> Option<Module> {
    let ups = path.iter().take_while(|word| *word == "super").count();
    let (start, rest) = match path.first()?.as_str() {
        "crate" => (&module[..0], &path[1..]),
        "self" => (module, &path[1..]),
        "super" => (&module[..module.len().checked_sub(ups)?], &path[ups..]),
        _ => return None,
    };
    Some([start, rest].concat())
}

/// The longest beginning of a path that is a file.
fn deepest(path: &[String], is_file: impl Fn(&[String]) -> bool) -> Option<Module> {
    (0..=path.len()).rev().map(|len| &path[..len]).find(|prefix| is_file(prefix)).map(<[_]>::to_vec)
}

/// The sets of modules of which each reaches each other, of two modules and more.
fn circles(graph: &BTreeMap<Module, BTreeSet<Module>>) -> Vec<BTreeSet<&Module>> {
    let reached: BTreeMap<&Module, BTreeSet<&Module>> =
        graph.keys().map(|module| (module, reachable(graph, module))).collect();
    let mut circles = BTreeSet::new();
    for (module, others) in &reached {
        let back = |other: &&&Module| reached.get(**other).is_some_and(|far| far.contains(module));
        let circle: BTreeSet<&Module> = others.iter().filter(back).copied().collect();
        if circle.len() > 1 {
            circles.insert(circle);
        }
    }
    circles.into_iter().collect()
}

/// All modules that a module needs, directly or not.
fn reachable<'a>(
    graph: &'a BTreeMap<Module, BTreeSet<Module>>,
    from: &'a Module,
) -> BTreeSet<&'a Module> {
    let (mut reached, mut ahead) = (BTreeSet::new(), vec![from]);
    while let Some(module) = ahead.pop() {
        for next in graph.get(module).into_iter().flatten() {
            if reached.insert(next) {
                ahead.push(next);
            }
        }
    }
    reached
}

#[test]
fn a_circle_is_found_and_a_chain_is_none() {
    let module = |name: &str| vec![name.to_owned()];
    let names = |pairs: &[(&str, &str)]| {
        let mut graph = BTreeMap::<Module, BTreeSet<Module>>::new();
        for (from, to) in pairs {
            graph.entry(module(from)).or_default().insert(module(to));
        }
        circles(&graph).into_iter().map(|circle| circle.len()).collect::<Vec<_>>()
    };
    assert_eq!(names(&[("a", "b"), ("b", "c"), ("c", "a"), ("c", "d")]), [3]);
    assert!(names(&[("a", "b"), ("b", "c"), ("a", "c")]).is_empty());
}

#[test]
fn paths_are_resolved_from_the_module_that_names_them() {
    let words = |path: &str| path.split("::").map(str::to_owned).collect::<Vec<_>>();
    let module = words("route::link");
    let from = |path: &str| absolute(&module, &words(path)).map(|path| path.join("::"));
    assert_eq!(from("crate::session::Session").as_deref(), Some("session::Session"));
    assert_eq!(from("super::pending::Pending").as_deref(), Some("route::pending::Pending"));
    assert_eq!(from("super::super::shared").as_deref(), Some("shared"));
    assert_eq!(from("tokio::sync::watch"), None);
}
