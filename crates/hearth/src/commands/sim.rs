//! `hearth sim`: the simulator. It replaces functions of libc, so it is a program of its own, which
//! lies beside this one.

use std::env;
use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use anyhow::{Context as _, bail};

/// The program, beside this one.
const PROGRAM: &str = "hearth-sim";

/// Rehearse losses on virtual time: scenarios, drawn faults, replays of any seed
#[derive(clap::Args, Debug)]
#[command(
    disable_help_flag = true,
    after_help = "Examples:\n  hearth sim run region-loss --report loss.html\n  hearth sim explore --minutes 5"
)]
pub(crate) struct Options {
    /// What the simulator is told; `hearth sim --help` says more
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGS")]
    args: Vec<OsString>,
}

/// Becomes the simulator.
///
/// # Errors
/// When it is not there, or cannot be started.
pub(crate) fn run(options: Options) -> anyhow::Result<()> {
    let program = env::current_exe().context("where this program is")?.with_file_name(PROGRAM);
    if !program.exists() {
        bail!("{} is not there; build it: cargo build --release -p hearth-sim", program.display());
    }
    let error = Command::new(&program).args(options.args).exec();
    Err(error).with_context(|| format!("cannot start {}", program.display()))
}
