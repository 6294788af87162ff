//! `hearth`, the one binary. Each command is a module: it parses its options, does one thing, and answers in lines that
//! people or programs (`--json`) read.
//!
//! | module | command |
//! |---|---|
//! | [`up`] | the whole mesh on this machine |
//! | [`token`] | an identity token of that mesh |
//! | [`chat`] | a terminal client |
//! | [`replay`] | real logs through the mesh, and the check of what came out |
//! | [`region`] | `region`, `node` and `link`: rehearse the loss of either |
//! | [`check`] | `topology check`: world files |
//! | [`sim`] | the simulator, a program of its own |
//! | [`process`] | `core` and `edge`: one node of a real deployment |
//! | [`admin`] | what such a deployment is prepared with |
//!
//! What they share: [`local`] and [`access`] find the mesh that `up` runs, [`control`] asks it for things, [`text`] reads
//! what others wrote, [`out`] prints. [`assembly`] puts nodes together, for [`up`] and for [`process`]; [`authority`] keeps the
//! certificate authority of a mesh.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod access;
mod admin;
mod assembly;
mod authority;
mod chat;
mod check;
mod cli;
mod control;
mod conversation;
mod limits;
mod local;
mod out;
mod process;
mod region;
mod replay;
mod runtime;
mod sim;
mod text;
mod token;
mod up;

use std::process::ExitCode;

// glibc's arenas grow and shrink under the load of a node; see docs/dependencies.md.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = match cli::parse(std::env::args_os()) {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    match cli.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            out::complain(&error);
            ExitCode::FAILURE
        }
    }
}
