//! The command line. What clap refuses ends with exit code 2, what fails later with 1 and one line on stderr.

use clap::{Parser, Subcommand};

use crate::up;

/// An edge-distributed chat mesh.
#[derive(Debug, Parser)]
#[command(name = "hearth", version, arg_required_else_help = true, after_help = "Start here:\n  hearth up")]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Up(up::Options),
}

impl Cli {
    /// Does it.
    ///
    /// # Errors
    /// When it could not do what the command says.
    pub(crate) fn run(self) -> anyhow::Result<()> {
        match self.command {
            Command::Up(options) => up::run(options),
        }
    }
}
