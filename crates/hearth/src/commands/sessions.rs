//! `hearth sessions`: end the sessions of a user or of a tenant.

use clap::{Args, Subcommand};
use client::http::encode;

use crate::api::EndedSessions;
use crate::api::client::{Control, CoreAdmin};
use crate::local_mesh::discovery::DataDir;
use crate::out;

/// Sessions of clients
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  hearth sessions end --tenant demo --user ann")]
pub(crate) struct Options {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand, Debug)]
enum Verb {
    /// Close the sessions of a user, or of all users of a tenant, with 4001; a client that has a
    /// good token may come again
    #[command(
        after_help = "Examples:\n  hearth sessions end --tenant demo --user ann\n  hearth sessions end --tenant demo \
                            --admin http://10.0.0.8:9400 --token-file /etc/hearth/admin.token"
    )]
    End(End),
}

#[derive(Args, Debug)]
struct End {
    /// The tenant
    #[arg(long)]
    tenant: String,
    /// One of its users; all, when left out
    #[arg(long)]
    user: Option<String>,
    /// Of a real deployment, each edge is asked by itself.
    #[command(flatten)]
    edge: CoreAdmin,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    data: DataDir,
}

/// Does what `hearth sessions` says.
///
/// # Errors
/// When it could not be done.
pub(crate) async fn run(options: Options) -> anyhow::Result<()> {
    let Verb::End(asked) = options.verb;
    let mut query = format!("tenant={}", encode(&asked.tenant));
    if let Some(user) = &asked.user {
        query.push_str(&format!("&user={}", encode(user)));
    }
    let ended: EndedSessions = match asked.edge.order(&format!("/sessions/end?{query}")).await? {
        Some(ended) => ended,
        None => Control::open(&asked.data.path()?)?.end_sessions(&query).await?,
    };
    if asked.json {
        out::json(&ended)?;
    } else {
        out::line(format_args!("ended {} sessions", ended.sessions))?;
    }
    Ok(())
}
