//! `hearth admin keys`: the signing keys that all edges of a mesh share.

use std::path::PathBuf;

use auth::{DevIssuer, StreamKey};
use clap::{Args, Subcommand};

use crate::out;

/// The signing keys that all edges of a mesh share
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  hearth admin keys init --dir keys")]
pub(crate) struct Options {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand, Debug)]
enum Verb {
    /// Make stream.pem, which signs stream tokens; one that is there stays
    #[command(
        after_help = "Example:\n  hearth admin keys init --dir keys\nThen copy the folder to every edge, readable by its user alone."
    )]
    Init {
        /// Where to
        #[arg(long, value_name = "DIR")]
        dir: PathBuf,
        /// Make dev.pem too, which speaks for every user of every tenant: for tests
        #[arg(long)]
        dev: bool,
        /// Print a JSON object with the ids of the keys
        #[arg(long)]
        json: bool,
    },
}

/// Does it.
///
/// # Errors
/// When the folder cannot be written, or holds what is no key.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let Verb::Init { dir, dev, json } = &options.verb;
    let stream = StreamKey::load_or_create(dir)?.public_key().kid();
    let dev = if *dev { Some(DevIssuer::load_or_create(dir)?.public_key().kid()) } else { None };
    if *json {
        return Ok(out::json(&serde_json::json!({ "stream": stream, "dev": dev }))?);
    }
    let dir = dir.display();
    out::line(format_args!("stream key {stream} in {dir}"))?;
    if let Some(dev) = dev {
        out::line(format_args!("development key {dev} in {dir}"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_are_there_stay() {
        let dir = tempfile::tempdir().unwrap();
        let init =
            |dev| run(&Options { verb: Verb::Init { dir: dir.path().into(), dev, json: false } });
        init(false).unwrap();
        let first = StreamKey::load(dir.path()).unwrap().public_key();
        assert!(DevIssuer::load(dir.path()).is_err(), "no development key unless asked for");
        init(true).unwrap();
        assert_eq!(StreamKey::load(dir.path()).unwrap().public_key(), first);
        DevIssuer::load(dir.path()).unwrap();
    }
}
