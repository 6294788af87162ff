//! `hearth`, the one binary.
//!
//! | module | what it is |
//! |---|---|
//! | [`cli`] | the command line: which command, with which options |
//! | [`commands`] | the commands that people give: token, chat, replay, region, conversation, topology, sim, admin |
//! | [`local_mesh`] | `up`: a whole mesh on this machine, and how the commands find it |
//! | [`node_process`] | `core` and `edge`: one node of a real deployment |
//! | [`api`] | what operators ask of either, and its client |
//! | [`assembly`] | puts nodes together, for `up` and for `core` and `edge` |
//! | [`authority`] | the certificate authority of a mesh |
//! | [`limits`] | the bounds of nodes, as files configure them |
//! | [`text`], [`out`], [`runtime`] | what others wrote; lines on stdout; a runtime for commands |

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod api;
mod assembly;
mod authority;
mod cli;
mod commands;
mod limits;
mod local_mesh;
mod node_process;
mod out;
mod runtime;
mod text;

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
