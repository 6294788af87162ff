//! `hearth conversation`: give a conversation another home while people write in it.

use clap::{Args, Subcommand};
use wire::ConversationId;

use crate::api::MoveStatus;
use crate::api::client::{Control, CoreAdmin};
use crate::local_mesh::discovery::DataDir;
use crate::out;

/// Single conversations: where they live
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  hearth conversation move cnv_… --to us-east")]
pub(crate) struct Options {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand, Debug)]
enum Verb {
    /// Give a conversation another home region while people write in it; they notice a higher epoch
    /// and nothing else
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
    #[command(flatten)]
    core: CoreAdmin,
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
    let order = format!("/conversations/{}/move/{}", asked.conversation, asked.to);
    let moved: MoveStatus = match asked.core.order(&order).await? {
        Some(moved) => moved,
        None => {
            Control::open(&asked.data.path()?)?
                .move_conversation(&asked.conversation, &asked.to)
                .await?
        }
    };
    if asked.json {
        out::json(&moved)?;
    } else {
        out::line(format_args!(
            "{}: lives in {} now, in shard {}",
            moved.conversation_id, moved.region, moved.shard
        ))?;
    }
    Ok(())
}
