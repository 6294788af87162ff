//! The command line. What clap refuses ends with exit code 2, what fails later with 1 and one line
//! on stderr.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Parser, Subcommand};

use crate::commands::{admin, chat, check, conversation, region, replay, sessions, sim, token};
use crate::local_mesh::up;
use crate::runtime::wait_for;
use crate::{node_process, out};

/// An edge-distributed chat mesh.
#[derive(Debug, Parser)]
#[command(
    name = "hearth",
    version,
    arg_required_else_help = true,
    after_help = "Start here:\n  hearth up\nand in other terminals:\n  hearth chat --user ann @bob\n  hearth chat --user \
                  bob @ann"
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Up(up::Options),
    Token(token::Options),
    Chat(chat::Options),
    Replay(replay::Options),
    Region(region::RegionOptions),
    Conversation(conversation::Options),
    Sessions(sessions::Options),
    Node(region::NodeOptions),
    Link(region::LinkOptions),
    Topology(check::Options),
    Sim(sim::Options),
    Core(node_process::CoreOptions),
    Edge(node_process::EdgeOptions),
    Admin(admin::Options),
}

/// Reads the command line. Prints help, or in one line what is wrong; then the program ends with
/// the code.
pub(crate) fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Cli, ExitCode> {
    Cli::try_parse_from(args).map_err(|error| {
        let code = if error.exit_code() == 0 { ExitCode::SUCCESS } else { ExitCode::from(2) };
        if is_help(&error) {
            // A reader that went away has seen enough.
            let _ = error.print();
        } else {
            out::note(format_args!("hearth: {}", one_line(&error)));
        }
        code
    })
}

fn is_help(error: &clap::Error) -> bool {
    let help = ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand;
    matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion)
        || error.kind() == help
}

/// clap's words without its paragraphs.
fn one_line(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let lines = text
        .lines()
        .take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more"));
    let words: Vec<_> = lines.map(str::trim).filter(|line| !line.is_empty()).collect();
    let said = words.join(" ");
    let usage = text.lines().find_map(|line| line.strip_prefix("Usage: "));
    let usage = usage.map(|usage| format!("; usage: {usage}")).unwrap_or_default();
    format!("{}{usage}", said.strip_prefix("error: ").unwrap_or(&said))
}

impl Cli {
    /// Does it.
    ///
    /// # Errors
    /// When it could not do what the command says.
    pub(crate) fn run(self) -> anyhow::Result<()> {
        match self.command {
            Command::Up(options) => up::run(options),
            Command::Token(options) => token::run(&options),
            Command::Chat(options) => chat::run(options),
            Command::Replay(options) => wait_for(replay::run(options)),
            Command::Region(options) => wait_for(region::region(options)),
            Command::Conversation(options) => wait_for(conversation::run(options)),
            Command::Sessions(options) => wait_for(sessions::run(options)),
            Command::Node(options) => wait_for(region::node(options)),
            Command::Link(options) => wait_for(region::link(options)),
            Command::Topology(options) => check::run(&options),
            Command::Sim(options) => sim::run(options),
            Command::Core(options) => node_process::core(&options),
            Command::Edge(options) => node_process::edge(&options),
            Command::Admin(options) => admin::run(options),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    fn exit_code(args: &[&str]) -> i32 {
        let args = std::iter::once("hearth").chain(args.iter().copied());
        Cli::try_parse_from(args).map_or_else(|error| error.exit_code(), |_| 0)
    }

    #[test]
    fn wrong_use_ends_with_2() {
        let wrong: [&[&str]; 23] = [
            &[],
            &["nonsense"],
            &["token"],
            &["token", "--user", ""],
            &["token", "--user", "ann", "--ttl", "0"],
            &["token", "--user", "ann", "--ttl", "soon"],
            &["chat"],
            &["replay"],
            &["replay", "x", "--speed", "0"],
            &["replay", "x", "--speed", "nan"],
            &["region"],
            &["region", "kill"],
            &["conversation", "move", "cnv_x", "--to", "eu-west"],
            &["sessions", "end", "--tenant", "demo", "--nobody"],
            &["node", "kill", "core-2"],
            &["link", "cut", "a"],
            &["topology", "check"],
            &["core"],
            &["edge", "--config"],
            &["admin"],
            &["admin", "config", "king"],
            &["admin", "schema", "plan"],
            &["admin", "ca", "issue", "--dir", "ca"],
        ];
        for args in wrong {
            assert_eq!(exit_code(args), 2, "{args:?}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_in_one_line() {
        for args in [
            &["hearth", "region", "kill"][..],
            &["hearth", "regoin"],
            &["hearth", "token", "--user", ""],
        ] {
            let error = Cli::try_parse_from(args).unwrap_err();
            let line = one_line(&error);
            assert!(
                !line.contains('\n') && line.len() > 20 && !line.starts_with("error"),
                "{line}"
            );
        }
    }

    #[test]
    fn right_use_is_understood() {
        let right: [&[&str]; 17] = [
            &["sim", "run", "region-loss", "--seed", "7"],
            &["sim", "--help"],
            &["token", "--user", "ann", "--tenant", "demo", "--ttl", "60"],
            &["chat", "--user", "ann", "--region", "eu-west", "@bob"],
            &["replay", "a", "b", "--speed", "60", "--json"],
            &["region", "status", "--json"],
            &["region", "kill", "eu-west", "--json", "--data", "x"],
            &["node", "kill", "r1/core/2"],
            &["link", "cut", "a", "b"],
            &["topology", "check", "world.toml"],
            &["core", "--config", "core.toml"],
            &["edge", "--config", "edge.toml"],
            &["admin", "config", "nodes"],
            &["admin", "schema", "check", "--config", "core.toml", "--json"],
            &["admin", "ca", "init", "--dir", "ca", "--force"],
            &[
                "admin", "ca", "issue", "--dir", "ca", "--node", "a/core/1", "--world", "w",
                "--out", "o",
            ],
            &["admin", "keys", "init", "--dir", "keys", "--dev"],
        ];
        for args in right {
            assert_eq!(exit_code(args), 0, "{args:?}");
        }
    }

    #[test]
    fn every_command_has_help_with_an_example() {
        fn check(command: &clap::Command, path: &str) {
            let path = format!("{path} {}", command.get_name());
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("hearth "), "{path} --help shows no example");
            assert!(command.get_about().is_some(), "{path} does not say what it is for");
            command.get_subcommands().for_each(|command| check(command, &path));
        }
        Cli::command().debug_assert();
        check(&Cli::command(), "");
    }
}
