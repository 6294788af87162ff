//! `hearth admin ca`: the authority of a mesh, and the certificates of its nodes.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use topology::World;

use crate::{authority, out};

/// The mesh's certificate authority: whoever holds its key can be any node
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  hearth admin ca init --dir ca\n  hearth admin ca issue --dir ca --node eu-west/core/1 --world \
                        world.toml --out eu-west-core-1"
)]
pub(crate) struct Options {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand, Debug)]
enum Verb {
    /// Make an authority: ca.pem, which every node trusts, and ca.key.pem, which stays with the
    /// operator
    #[command(after_help = "Example:\n  hearth admin ca init --dir ca")]
    Init {
        /// Where to
        #[arg(long, value_name = "DIR")]
        dir: PathBuf,
        /// Replace the one that is there; its certificates are worth nothing then
        #[arg(long)]
        force: bool,
        /// Print a JSON object with the files that were written
        #[arg(long)]
        json: bool,
    },
    /// Issue a node's certificate: node.pem and node.key.pem, and ca.pem beside them
    #[command(
        after_help = "Example:\n  hearth admin ca issue --dir ca --node eu-west/core/1 --world world.toml --out eu-west-core-1"
    )]
    Issue {
        /// Where the authority is
        #[arg(long, value_name = "DIR")]
        dir: PathBuf,
        /// For whom: region (a name of the world), role and name
        #[arg(long, value_name = "NODE")]
        node: String,
        /// The world, which knows the region's number
        #[arg(long, value_name = "FILE")]
        world: PathBuf,
        /// Where to; what is written there is as private as the key
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        /// Replace what is there
        #[arg(long)]
        force: bool,
        /// Print a JSON object with the files that were written
        #[arg(long)]
        json: bool,
    },
}

/// Does it.
///
/// # Errors
/// When something is there already, or cannot be read or written.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let (written, json) = match &options.verb {
        Verb::Init { dir, force, json } => (init(dir, *force)?, *json),
        Verb::Issue { dir, node, world, out, force, json } => {
            (issue(dir, node, world, out, *force)?, *json)
        }
    };
    let written: Vec<_> = written.iter().map(|path| path.display().to_string()).collect();
    if json {
        out::json(&serde_json::json!({ "written": written }))?;
    } else {
        for path in written {
            out::line(format_args!("wrote {path}"))?;
        }
    }
    Ok(())
}

fn init(dir: &Path, force: bool) -> anyhow::Result<Vec<PathBuf>> {
    if let Some(there) = authority::is_there(dir)
        && !force
    {
        bail!("{} is there: take another --dir, or replace it with --force", there.display());
    }
    authority::create(dir)?;
    Ok(authority::files(dir).into())
}

fn issue(
    dir: &Path,
    node: &str,
    world: &Path,
    out: &Path,
    force: bool,
) -> anyhow::Result<Vec<PathBuf>> {
    let file = world.display();
    let text =
        fs::read_to_string(world).with_context(|| format!("cannot read the world {file}"))?;
    let world = World::parse(&text).map_err(|mistakes| anyhow::anyhow!("{file}: {mistakes}"))?;
    let node = world.node_named(node).context("--node")?;
    let ca = authority::load(dir)?;
    let issued = ca.issue_pem(&node)?;
    let files = [
        ("node.pem", issued.cert.as_str()),
        ("node.key.pem", &issued.key),
        (authority::CERT_FILE, ca.cert_pem()),
    ];
    let files = files.map(|(name, pem)| (out.join(name), pem));
    if let Some((there, _)) = files.iter().find(|(path, _)| path.exists())
        && !force
    {
        bail!("{} is there: take another --out, or replace it with --force", there.display());
    }
    for (path, pem) in &files {
        authority::write(path, pem)?;
    }
    Ok(files.into_iter().map(|(path, _)| path).collect())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use mesh::Identity;

    use super::*;

    fn world(dir: &Path) -> PathBuf {
        let path = dir.join("world.toml");
        fs::write(&path, topology::world::SHIPPED[0].1).unwrap();
        path
    }

    #[test]
    fn what_is_issued_proves_the_node_and_is_private() {
        let dir = tempfile::tempdir().unwrap();
        let (ca, out) = (dir.path().join("ca"), dir.path().join("out"));
        init(&ca, false).unwrap();
        let name = World::default_world().name_of(&"r2/edge/7".parse().unwrap());
        let written = issue(&ca, &name, &world(dir.path()), &out, false).unwrap();
        let pem = |name: &str| fs::read_to_string(out.join(name)).unwrap();
        let identity =
            Identity::from_pem(&pem("node.pem"), &pem("node.key.pem"), &pem("ca.pem")).unwrap();
        assert_eq!(identity.node().unwrap().to_string(), "r2/edge/7");
        for path in written.iter().chain(&authority::files(&ca)) {
            assert_eq!(
                fs::metadata(path).unwrap().permissions().mode() & 0o777,
                0o600,
                "{}",
                path.display()
            );
        }
    }

    #[test]
    fn nothing_is_overwritten_unless_one_insists() {
        let dir = tempfile::tempdir().unwrap();
        let (ca, out, world) = (dir.path().join("ca"), dir.path().join("out"), world(dir.path()));
        init(&ca, false).unwrap();
        let first = fs::read(ca.join("ca.pem")).unwrap();
        let again = init(&ca, false).unwrap_err().to_string();
        assert!(
            again.contains("--force") && fs::read(ca.join("ca.pem")).unwrap() == first,
            "{again}"
        );
        let name = World::default_world().name_of(&"r1/core/1".parse().unwrap());
        issue(&ca, &name, &world, &out, false).unwrap();
        let again = issue(&ca, &name, &world, &out, false).unwrap_err().to_string();
        assert!(again.contains("node.pem is there") && again.contains("--force"), "{again}");
        issue(&ca, &name, &world, &out, true).unwrap();
        init(&ca, true).unwrap();
        assert_ne!(fs::read(ca.join("ca.pem")).unwrap(), first);
    }

    #[test]
    fn what_is_missing_or_wrong_is_told_with_the_cure() {
        let dir = tempfile::tempdir().unwrap();
        let (ca, out, world) = (dir.path().join("ca"), dir.path().join("out"), world(dir.path()));
        let name = World::default_world().name_of(&"r1/core/1".parse().unwrap());
        let why = |node: &str, world: &Path| {
            issue(&ca, node, world, &out, false).map_err(|error| format!("{error:#}")).unwrap_err()
        };
        assert!(why(&name, &world).contains("hearth admin ca init"), "{}", why(&name, &world));
        assert!(why("atlantis/core/1", &world).contains("it has: "));
        assert!(
            why(&name, Path::new("/nowhere/world.toml"))
                .contains("cannot read the world /nowhere/world.toml")
        );
        init(&ca, false).unwrap();
        fs::set_permissions(ca.join("ca.key.pem"), fs::Permissions::from_mode(0o644)).unwrap();
        assert!(why(&name, &world).contains("run chmod 600"), "{}", why(&name, &world));
        assert!(!out.exists(), "nothing was written");
    }
}
