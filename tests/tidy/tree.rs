use std::fs;
use std::path::{Path, PathBuf};

use cargo_metadata::{DependencyKind, MetadataCommand};

/// A crate of this workspace.
pub(super) struct Member {
    /// As the others call it: `wire`, `core-region`, `hearth`, `stories`.
    pub(super) name: String,
    /// Its folder, from the root.
    pub(super) dir: String,
    pub(super) deps: Vec<Dep>,
}

/// A dependency of a crate.
pub(super) struct Dep {
    /// As its user calls it.
    pub(super) name: String,
    /// Whether it is a crate of this workspace.
    pub(super) ours: bool,
    pub(super) kind: DependencyKind,
}

/// The root of the workspace.
pub(super) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the stories lie in a folder of the root")
}

/// The text of a file of the tree. None when there is no such file, or when it is not text.
pub(super) fn read(path: &str) -> Option<String> {
    fs::read_to_string(root().join(path)).ok()
}

pub(super) fn exists(path: &str) -> bool {
    root().join(path).exists()
}

/// All files of the tree, from the root with `/`, sorted: what git would take, which is all that
/// `.gitignore` leaves.
pub(super) fn files() -> Vec<String> {
    let ignored: Vec<String> =
        read(".gitignore").unwrap_or_default().lines().map(str::to_owned).collect();
    let mut files = Vec::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        let entries =
            fs::read_dir(root().join(&folder)).expect("a folder that was just listed can be read");
        for entry in entries.map(|entry| entry.expect("a folder can be read to its end")) {
            let path = folder.join(entry.file_name());
            let text = path.to_str().expect("names of files are UTF-8").replace('\\', "/");
            if text == ".git" || ignored.iter().any(|line| line.strip_prefix('/') == Some(&text)) {
                continue;
            }
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => folders.push(path),
                _ => files.push(text),
            }
        }
    }
    files.sort();
    files
}

/// The crates of the workspace, in the order of its manifest's names.
pub(super) fn members() -> Vec<Member> {
    let metadata = MetadataCommand::new()
        .manifest_path(root().join("Cargo.toml"))
        .no_deps()
        .exec()
        .expect("cargo describes its own workspace");
    let mut members: Vec<Member> = metadata.packages.iter().map(member).collect();
    members.sort_by(|a, b| a.name.cmp(&b.name));
    members
}

fn member(package: &cargo_metadata::Package) -> Member {
    let dir = package.manifest_path.parent().expect("a manifest lies in a folder");
    let dir = Path::new(dir.as_str()).strip_prefix(root()).expect("a member lies below the root");
    let deps = package.dependencies.iter().map(|dep| Dep {
        name: dep.rename.clone().unwrap_or_else(|| dep.name.to_string()),
        ours: dep.path.is_some(),
        kind: dep.kind,
    });
    Member {
        name: package.name.trim_start_matches("hearth-").to_owned(),
        dir: dir.to_str().expect("names of folders are UTF-8").to_owned(),
        deps: deps.collect(),
    }
}

impl Member {
    /// Its manifest, from the root.
    pub(super) fn manifest(&self) -> String {
        format!("{}/Cargo.toml", self.dir)
    }

    /// Those of the files that are its Rust sources, tests and examples included.
    pub(super) fn sources<'a>(&self, files: &'a [String]) -> Vec<&'a str> {
        let folder = format!("{}/", self.dir);
        let files = files.iter().map(String::as_str);
        files.filter(|file| file.starts_with(&folder) && file.ends_with(".rs")).collect()
    }
}

/// The `[workspace.dependencies]` of the root: name and whether it is one of ours.
pub(super) fn workspace_dependencies() -> Vec<(String, bool)> {
    let manifest: toml::Table =
        read("Cargo.toml").expect("the root has a manifest").parse().expect("cargo took it");
    let dependencies = manifest["workspace"]["dependencies"]
        .as_table()
        .expect("the root names all versions")
        .clone();
    dependencies.into_iter().map(|(name, value)| (name, value.get("path").is_some())).collect()
}
