//! `hearth chat`: a terminal client. Full screen for a person at a terminal, lines for pipes.
//!
//! | module | what |
//! |---|---|
//! | [`input`] | what a typed line means |
//! | [`talk`] | does it: the SDK on one side, the model on the other |
//! | [`model`] | rooms, messages, members, delivery: what there is to show |
//! | [`screen`], [`draw`] | full screen |
//! | [`lines`] | one line at a time |

mod draw;
mod input;
mod lines;
mod model;
mod screen;
mod talk;

use std::io::IsTerminal as _;

use time::UtcOffset;
use wire::UserId;

use self::model::Model;
use self::talk::Talk;
use crate::local_mesh::access::Access;
use crate::local_mesh::discovery::DataDir;

/// A terminal client
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  hearth chat --user ann @bob\n  hearth chat --user ann --region us-east\n  echo hello | hearth \
                  chat --user ann @bob\n\nInside: /help. With a terminal it takes the whole screen; in a pipe it sends \
                  every line of stdin and ends when all are acknowledged."
)]
pub(crate) struct Options {
    /// Who you are: any name; nobody needs to be registered
    #[arg(long, short, value_name = "USER")]
    user: UserId,
    /// The region whose edge you are nearest to [default: the first of the tenant's zone]
    #[arg(long, short, value_name = "REGION")]
    region: Option<String>,
    /// Whose user you are [default: the first tenant of the mesh]
    #[arg(long, short, value_name = "TENANT")]
    tenant: Option<String>,
    /// Talk line by line even at a terminal
    #[arg(long)]
    plain: bool,
    #[command(flatten)]
    data: DataDir,
    /// `cnv_…`, the name of a group you are in, or @user [default: choose from your inbox]
    #[arg(value_name = "CONVERSATION")]
    conversation: Option<String>,
}

/// Talks until the user leaves.
///
/// # Errors
/// When the mesh is not there, the conversation cannot be opened, or (in a pipe) a line could not
/// be sent.
pub(crate) fn run(options: Options) -> anyhow::Result<()> {
    // Asked before there are threads: later the time zone may be unknowable.
    let offset = UtcOffset::current_local_offset().unwrap_or(UtcOffset::UTC);
    crate::runtime::wait_for(chat(options, offset))
}

async fn chat(options: Options, offset: UtcOffset) -> anyhow::Result<()> {
    let dir = options.data.path()?;
    let access = Access::open(&dir, options.tenant.as_deref())?;
    let region = match &options.region {
        Some(region) => {
            crate::local_mesh::discovery::LocalMesh::find(&dir)?.region(region)?.name.clone()
        }
        None => access.regions().first().cloned().unwrap_or_default(),
    };
    let model = Model::new(options.user.clone(), access.tenant().clone(), offset);
    let (talk, events) =
        Talk::start(access.options(&options.user, None, &region), model, options.conversation);
    let at_terminal = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    if at_terminal && !options.plain {
        screen::run(talk, events).await
    } else {
        lines::run(talk, events).await
    }
}
