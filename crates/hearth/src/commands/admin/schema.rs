//! `hearth admin schema`: the keyspaces and tables of the store, and whether the cluster is as it
//! must be.

use std::fs;
use std::path::PathBuf;

use ::store::scylla::schema::{Step, Wrong};
use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use serde_json::json;
use topology::World;

use crate::node_process::config::CoreConfig;
use crate::node_process::store;
use crate::out;

/// The store's keyspaces and tables
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  hearth admin schema plan --config core.toml\n  hearth admin schema apply --config core.toml\n  \
                        hearth admin schema check --config core.toml --json"
)]
pub(crate) struct Options {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand, Debug)]
enum Verb {
    /// Print the statements that are missing, as CQL
    #[command(after_help = "Example:\n  hearth admin schema plan --config core.toml")]
    Plan(Common),
    /// Do what is missing; may be repeated, by one operator at a time
    #[command(after_help = "Example:\n  hearth admin schema apply --config core.toml")]
    Apply(Common),
    /// Say what is not as it must be, with the cure of each; keyspaces, tables and servers
    #[command(after_help = "Example:\n  hearth admin schema check --config core.toml")]
    Check(Common),
}

#[derive(Args, Debug)]
struct Common {
    /// A core's file, of any region
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
}

/// Does it.
///
/// # Errors
/// When the cluster does not answer, or is not as it must be.
pub(crate) async fn run(options: Options) -> anyhow::Result<()> {
    let (Verb::Plan(common) | Verb::Apply(common) | Verb::Check(common)) = &options.verb;
    let config = CoreConfig::read(&common.config)?;
    let who = &config.common.who;
    let file = who.world.display();
    let text =
        fs::read_to_string(&who.world).with_context(|| format!("cannot read the world {file}"))?;
    let world = World::parse(&text).map_err(|mistakes| anyhow::anyhow!("{file}: {mistakes}"))?;
    let region = world
        .node_named(&who.node)
        .with_context(|| format!("{}: node", common.config.display()))?
        .region;
    let connection = store::connect_once(&store::options(&config, &world, region)?).await?;
    let schema = connection.schema();
    match &options.verb {
        Verb::Plan(_) => steps(&world, &schema.plan().await?, common.json),
        Verb::Apply(_) => {
            let done = schema.apply().await?;
            if done.is_empty() && !common.json {
                out::line("nothing is missing")?;
            }
            steps(&world, &done, common.json)
        }
        Verb::Check(_) => verdict(&schema.check().await?, common.json),
    }
}

fn steps(world: &World, steps: &[Step], json: bool) -> anyhow::Result<()> {
    for Step { zone, version, statements } in steps {
        let zone = world.zone(*zone).map(|zone| zone.name.as_str()).unwrap_or_default();
        if json {
            out::json(&json!({ "zone": zone, "version": version, "statements": statements }))?;
            continue;
        }
        out::line(format_args!("-- zone {zone}, version {version}"))?;
        for statement in statements {
            out::line(format_args!("{statement};"))?;
        }
    }
    Ok(())
}

fn verdict(wrong: &[Wrong], json: bool) -> anyhow::Result<()> {
    for Wrong { what, cure } in wrong {
        if json {
            out::json(&json!({ "what": what, "cure": cure }))?;
        } else {
            out::note(format_args!("{what}: {cure}"));
        }
    }
    match wrong.len() {
        0 if json => Ok(()),
        0 => Ok(out::line("the store is as it must be")?),
        n => bail!("the store is not as it must be: {n} thing{}", if n == 1 { "" } else { "s" }),
    }
}
