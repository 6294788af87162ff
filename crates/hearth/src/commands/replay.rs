//! `hearth replay`: what real people wrote, through the running mesh, and the check of what came
//! out.
//!
//! | module | in the order of a run |
//! |---|---|
//! | [`log`] | the lines of the files |
//! | [`plan`] | who says what, when, under which id |
//! | [`stage`] | one group a file, with its authors in it |
//! | [`ledger`] | what was sent, acknowledged and seen; whether anything still moves |
//! | [`authors`] | clients that say the lines |
//! | [`watchers`] | a client in every region that sees every conversation |
//! | [`verdict`] | the history from every region, the invariants, the summary |

mod authors;
mod ledger;
mod log;
mod plan;
mod stage;
mod verdict;
mod watchers;

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use self::ledger::Ledger;
use self::plan::Plan;
use crate::local_mesh::access::Access;
use crate::local_mesh::discovery::DataDir;
use crate::out;

/// Real chat logs through the running mesh, and the check of what came out
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Example:\n  hearth replay ubuntu-irc/*.raw.txt\n\nA line `[HH:MM] <nick> text` is a message of the user \
                  nick; `=== …` and `[HH:MM]  * nick …` are skipped. Every file becomes a group. Exit code 0: everything \
                  was acknowledged, and nothing was lost, duplicated or reordered."
)]
pub(crate) struct Options {
    /// IRC logs
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Keep the pauses of the log, so many times faster [default: as fast as acknowledgements
    /// allow]
    #[arg(long, value_name = "X", value_parser = speed)]
    speed: Option<f64>,
    /// Whose users they are [default: the first tenant of the mesh]
    #[arg(long, short, value_name = "TENANT")]
    tenant: Option<String>,
    /// Give up when nothing moves for so long, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 120, value_parser = clap::value_parser!(u64).range(1..))]
    quiet_timeout: u64,
    /// Print the summary as one JSON line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    data: DataDir,
}

fn speed(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(speed) if speed.is_finite() && speed > 0.0 => Ok(speed),
        _ => Err("a number above 0 is wanted".into()),
    }
}

/// Plays, watches, checks and reports.
///
/// # Errors
/// When a file is not a log, the mesh is not there or stops moving, or the check finds anything.
pub(crate) async fn run(options: Options) -> anyhow::Result<()> {
    let dir = options.data.path()?;
    let logs = options
        .files
        .iter()
        .map(|file| log::Log::read(file))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let access = Access::open(&dir, options.tenant.as_deref())?;
    let quiet_timeout = Duration::from_secs(options.quiet_timeout);
    let progress = progress(options.json);
    progress.set_message("preparing groups and members");
    let plan = Plan::new(logs, options.speed)?;
    let plan = Arc::new(stage::set(&access, plan, quiet_timeout).await?);
    let ledger = Arc::new(Ledger::new(plan.clone(), access.regions().len(), quiet_timeout));
    let bar = tokio::spawn(show(progress.clone(), ledger.clone()));
    let played = play(&access, &plan, &ledger).await;
    bar.abort();
    progress.finish_and_clear();
    let seconds = played?;
    let verdict = verdict::reach(&access, &dir, &plan, &ledger, seconds).await?;
    if options.json {
        out::json(&verdict.summary)?
    } else {
        out::line(verdict.for_people())?
    }
    verdict.judge()
}

/// From the first line to the last watcher, in seconds.
async fn play(access: &Access, plan: &Arc<Plan>, ledger: &Arc<Ledger>) -> anyhow::Result<f64> {
    let watchers = watchers::Watchers::start(access, plan, ledger).await?;
    ledger.begin();
    tokio::select! {
        done = authors::play(access, plan, ledger) => done?,
        stuck = ledger.stuck() => return Err(stuck),
    }
    tokio::select! {
        done = watchers.catch_up() => done?,
        stuck = ledger.stuck() => return Err(stuck),
    }
    let seconds = ledger.elapsed().as_secs_f64();
    watchers.stop().await;
    Ok(seconds)
}

fn progress(json: bool) -> ProgressBar {
    if json || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{elapsed_precise} {bar:30} {pos}/{len} acked  {msg}")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr()).with_style(style)
}

/// Draws the bar; without a terminal, a line on stderr whenever more is acknowledged. Runs until it
/// is aborted.
async fn show(bar: ProgressBar, ledger: Arc<Ledger>) {
    let (has_terminal, mut told) = (std::io::stderr().is_terminal(), 0);
    loop {
        let now = ledger.now();
        if !has_terminal && now.acked != told {
            told = now.acked;
            out::note(format_args!("replay: {told} of {} messages acknowledged", now.planned));
        }
        bar.set_length(now.planned);
        bar.set_position(now.acked);
        bar.set_message(now.to_string());
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
}
