//! `hearth conversation`: give a conversation another home while people write in it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use client::http::Plain;
use http::Method;
use wire::ConversationId;

use crate::control::Control;
use crate::local::{DataDir, MoveStatus};
use crate::out;

/// Longer than a node lets a move take before it says so.
const PATIENCE: Duration = Duration::from_secs(90);

/// Single conversations: where they live
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  hearth conversation move cnv_… --to us-east")]
pub(crate) struct Options {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand, Debug)]
enum Verb {
    /// Give a conversation another home region while people write in it; they notice a higher epoch and nothing else
    #[command(
        after_help = "Examples:\n  hearth conversation move cnv_… --to us-east\n  hearth conversation move cnv_… --to \
                            us-east --admin http://10.0.0.7:9080 --token-file /etc/hearth/admin.token"
    )]
    Move(Move),
}

#[derive(Args, Debug)]
struct Move {
    /// The conversation, as clients know it
    conversation: ConversationId,
    /// The region that shall be its home, as the world file names it
    #[arg(long, value_name = "REGION")]
    to: String,
    /// Of a real deployment: the admin endpoint of any core of the conversation's zone, such as http://10.0.0.7:9080
    #[arg(long, value_name = "URL", requires = "token_file")]
    admin: Option<String>,
    /// The file with the secret that this core was given as [admin] token_file
    #[arg(long, value_name = "FILE", requires = "admin")]
    token_file: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    data: DataDir,
}

/// Does what `hearth conversation` says.
///
/// # Errors
/// When it could not be done.
pub(crate) async fn run(options: Options) -> anyhow::Result<()> {
    let Verb::Move(asked) = options.verb;
    let moved = match (&asked.admin, &asked.token_file) {
        (Some(admin), Some(token)) => ask_a_core(admin, token, &asked).await?,
        _ => Control::open(&asked.data.path()?)?.move_conversation(&asked.conversation, &asked.to).await?,
    };
    if asked.json {
        out::json(&moved)?;
    } else {
        out::line(format_args!("{}: lives in {} now, in shard {}", moved.conversation_id, moved.region, moved.shard))?;
    }
    Ok(())
}

async fn ask_a_core(admin: &str, token_file: &Path, asked: &Move) -> anyhow::Result<MoveStatus> {
    let token = std::fs::read_to_string(token_file).with_context(|| token_file.display().to_string())?;
    let path = format!("/conversations/{}/move/{}", asked.conversation, asked.to);
    let http = Plain::new(Arc::new(net::OsNet));
    let answer = tokio::time::timeout(PATIENCE, http.call(Method::POST, admin, &path, token.trim())).await;
    let answer = answer.map_err(|_| anyhow::anyhow!("{admin} did not answer within {} s", PATIENCE.as_secs()))?;
    let (status, body) = answer.map_err(|why| anyhow::anyhow!("{admin} does not answer: {why}"))?;
    if status.is_success() {
        return serde_json::from_slice(&body).context("the core answered what this version of hearth does not know");
    }
    let said: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
    match said["message"].as_str() {
        Some(message) => bail!("{message}"),
        None => bail!("{admin} answered with status {}", status.as_u16()),
    }
}
