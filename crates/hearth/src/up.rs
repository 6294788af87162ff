//! `hearth up`: the whole mesh on this machine.

use crate::local::DataDir;

/// The whole mesh on this machine, on the embedded store
#[derive(clap::Args, Debug)]
pub(crate) struct Options {
    #[command(flatten)]
    data: DataDir,
}

/// Runs until Ctrl-C.
///
/// # Errors
/// When it cannot start.
pub(crate) fn run(options: Options) -> anyhow::Result<()> {
    anyhow::bail!("not built yet: {}", options.data.path()?.display())
}
