//! A process that is killed right before a chosen change of its files.
//!
//! It is traced, system call by system call, so no moment between two changes is left out: SIGKILL
//! comes when the kernel has been asked for the n-th and has not done it. What a process writes
//! elsewhere (sockets, its output) does not count.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;

use nix::errno::Errno;
use nix::libc;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// What became of the process.
pub struct Outcome {
    /// Changes that were done.
    pub changes: u64,
    /// None when it was killed before a change.
    pub ended: Option<ExitStatus>,
    /// What it said on stdout, in whole lines.
    pub said: Vec<String>,
}

/// Whether a process can be traced here.
#[must_use]
pub fn is_possible() -> bool {
    cfg!(all(target_os = "linux", target_arch = "x86_64"))
}

/// Runs a program until its `at`-th change in `folder`, counted from 1, or to its end. A line that
/// `is_last` says is its last ends it with SIGTERM.
#[must_use]
pub fn run(program: &Command, folder: &Path, at: u64, is_last: fn(&str) -> bool) -> Outcome {
    let (mut child, lines) = held(program);
    let pid = pid_of(child.id());
    let options = Options::PTRACE_O_TRACESYSGOOD
        | Options::PTRACE_O_TRACECLONE
        | Options::PTRACE_O_TRACEFORK
        | Options::PTRACE_O_TRACEVFORK
        | Options::PTRACE_O_TRACEEXEC
        | Options::PTRACE_O_EXITKILL;
    ptrace::seize(pid, options).expect("a child can be traced");
    ptrace::interrupt(pid).expect("it lives");
    child.stdin.take().expect("it is piped").write_all(b"go\n").expect("it reads");
    let mut said = Vec::new();
    let mut changes = 0;
    let ended = loop {
        said.extend(lines.try_iter().inspect(|line| {
            if is_last(line) {
                _ = kill(pid, Signal::SIGTERM);
            }
        }));
        // Children of this thread alone: other tests have theirs.
        let flags = WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD;
        match waitpid(None, Some(flags)).expect("a traced process tells") {
            WaitStatus::PtraceSyscall(thread) => {
                if is_change(thread, pid, folder) {
                    if changes + 1 == at {
                        kill(pid, Signal::SIGKILL).expect("it lives");
                        break None;
                    }
                    changes += 1;
                }
                go_on(thread, None);
            }
            WaitStatus::PtraceEvent(thread, ..) => go_on(thread, None),
            WaitStatus::Stopped(thread, signal) => go_on(thread, Some(signal)),
            WaitStatus::Exited(ended, code) if ended == pid => {
                break Some(ExitStatus::from_raw(code << 8));
            }
            WaitStatus::Signaled(ended, signal, _) if ended == pid => {
                break Some(ExitStatus::from_raw(signal as i32));
            }
            WaitStatus::Exited(..)
            | WaitStatus::Signaled(..)
            | WaitStatus::Continued(_)
            | WaitStatus::StillAlive => {}
        }
    };
    if ended.is_none() {
        // Every thread must be gone before somebody else opens its files.
        while !matches!(
            waitpid(None, Some(WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD)),
            Err(Errno::ECHILD)
        ) {}
    }
    said.extend(lines.iter());
    Outcome { changes, ended, said }
}

/// Starts the program, which waits for a line on its input first.
fn held(program: &Command) -> (Child, mpsc::Receiver<String>) {
    let mut held = Command::new("/bin/sh");
    held.args(["-c", "read go; exec \"$@\"", "sh"]);
    held.arg(program.get_program()).args(program.get_args());
    for (name, value) in program.get_envs() {
        held.env(name, value.unwrap_or_default());
    }
    let mut child =
        held.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("a shell starts");
    let stdout = BufReader::new(child.stdout.take().expect("it is piped"));
    let (send, lines) = mpsc::sync_channel(65_536);
    std::thread::spawn(move || {
        for line in stdout.lines().map_while(Result::ok) {
            if send.send(line).is_err() {
                return;
            }
        }
    });
    (child, lines)
}

fn pid_of(id: u32) -> Pid {
    Pid::from_raw(i32::try_from(id).expect("a process id"))
}

/// A thread that is gone needs nothing.
fn go_on(thread: Pid, signal: Option<Signal>) {
    match ptrace::syscall(thread, signal) {
        Ok(()) | Err(Errno::ESRCH) => {}
        Err(error) => panic!("tracing: {error}"),
    }
}

/// Whether a thread asks to change a file.
#[cfg(target_arch = "x86_64")]
fn is_change(thread: Pid, process: Pid, folder: &Path) -> bool {
    let begins =
        ptrace::syscall_info(thread).is_ok_and(|info| info.op == libc::PTRACE_SYSCALL_INFO_ENTRY);
    let Some(regs) = begins.then(|| ptrace::getregs(thread).ok()).flatten() else { return false };
    let creates = |flags: u64| flags & u64::from(libc::O_CREAT.cast_unsigned()) != 0;
    match i64::from_ne_bytes(regs.orig_rax.to_ne_bytes()) {
        libc::SYS_mkdir
        | libc::SYS_mkdirat
        | libc::SYS_rename
        | libc::SYS_renameat
        | libc::SYS_renameat2
        | libc::SYS_unlink
        | libc::SYS_unlinkat
        | libc::SYS_link
        | libc::SYS_linkat
        | libc::SYS_rmdir => true,
        libc::SYS_open => creates(regs.rsi),
        libc::SYS_openat => creates(regs.rdx),
        libc::SYS_write
        | libc::SYS_writev
        | libc::SYS_pwrite64
        | libc::SYS_ftruncate
        | libc::SYS_fallocate => {
            let file = fs::read_link(format!("/proc/{process}/fd/{}", regs.rdi));
            file.is_ok_and(|file| file.starts_with(folder))
        }
        _ => false,
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn is_change(_: Pid, _: Pid, _: &Path) -> bool {
    false
}
