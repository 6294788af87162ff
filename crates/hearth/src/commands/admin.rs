//! `hearth admin`: what operators of a real deployment prepare with, before and beside the nodes:
//! the authority of the mesh, the keys of the edges, the schema of the store, example files.

mod ca;
mod keys;
mod schema;

use clap::{Args, Subcommand, ValueEnum};

use crate::node_process::config::{core_example, edge_example};
use crate::{out, runtime};

/// Prepare a real deployment: the mesh's authority, keys, the store's schema, example configs
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  hearth admin ca init --dir ca\n  hearth admin config core > core.toml\n  hearth admin schema \
                        check --config core.toml"
)]
pub(crate) struct Options {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand, Debug)]
enum What {
    Ca(ca::Options),
    Keys(keys::Options),
    Schema(schema::Options),
    /// Print an example file in which every field is explained
    #[command(
        after_help = "Examples:\n  hearth admin config core > core.toml\n  hearth admin config nodes > nodes.toml"
    )]
    Config {
        /// Whose file
        kind: Kind,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Kind {
    /// core.toml
    Core,
    /// edge.toml
    Edge,
    /// nodes.toml, the same for all
    Nodes,
}

/// Does it.
///
/// # Errors
/// When it could not do what the command says.
pub(crate) fn run(options: Options) -> anyhow::Result<()> {
    match options.what {
        What::Ca(options) => ca::run(&options),
        What::Keys(options) => keys::run(&options),
        What::Schema(options) => runtime::wait_for(schema::run(options)),
        What::Config { kind } => Ok(out::line(example(kind).trim_end())?),
    }
}

fn example(kind: Kind) -> String {
    match kind {
        Kind::Core => core_example(),
        Kind::Edge => edge_example(),
        Kind::Nodes => node::addresses::example(),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn the_example_files_of_the_tree_are_what_the_program_prints() {
        for (kind, name) in [(Kind::Core, "core"), (Kind::Edge, "edge"), (Kind::Nodes, "nodes")] {
            let file = Path::new(env!("CARGO_MANIFEST_DIR"))
                .join(format!("../../deploy/{name}.example.toml"));
            let kept = std::fs::read_to_string(&file).unwrap_or_default();
            assert_eq!(
                kept,
                example(kind),
                "run: hearth admin config {name} > deploy/{name}.example.toml"
            );
        }
    }
}
