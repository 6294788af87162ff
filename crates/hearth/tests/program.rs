//! The program itself, as a process: exit codes and streams. The stories in `tests/` use everything
//! that it does.

#![allow(clippy::unwrap_used)]

use std::process::{Command, Output};

fn hearth(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_hearth")).args(args).output().unwrap()
}

#[test]
fn help_and_version_go_to_stdout_and_succeed() {
    for (args, wanted) in [(["--help"], "hearth up"), (["--version"], env!("CARGO_PKG_VERSION"))] {
        let output = hearth(&args);
        assert_eq!(output.status.code(), Some(0));
        assert!(String::from_utf8(output.stdout).unwrap().contains(wanted), "{args:?}");
        assert!(output.stderr.is_empty(), "{args:?}");
    }
}

#[test]
fn an_unknown_command_is_refused_in_one_line_with_exit_code_2() {
    let output = hearth(&["juggle"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(output.stdout.is_empty());
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(told.lines().count(), 1, "{told}");
    assert!(told.contains("juggle"), "{told}");
}
