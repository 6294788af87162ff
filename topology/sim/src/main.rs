//! `hearth-sim`: the program behind `hearth sim`. A binary of its own, because it replaces
//! functions of libc.

mod cli;
mod show;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    match cli::run(cli::Cli::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            show::error(&error);
            ExitCode::FAILURE
        }
    }
}
