//! Ends what the tests started when they end, and also when they are killed: a shell holds a pipe
//! from them, is told of every process, network and folder, and clears them away when the pipe
//! closes.

use std::io::Write as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};

/// Each line is an order; the end of the input is the last one.
const SCRIPT: &str = r#"
trap '' INT TERM HUP
pids=' ' spaces='' links='' folders=''
while read -r order name; do
    case $order in
        process) pids="$pids$name " ;;
        gone) pids="${pids%% $name *} ${pids#* $name }" ;;
        namespace) spaces="$spaces $name" ;;
        link) links="$links $name" ;;
        folder) folders="$folders$name
" ;;
    esac
done
[ "$pids" = ' ' ] || kill -KILL $pids
for link in $links; do ip link del "$link"; done
for space in $spaces; do ip netns del "$space"; done
sleep 0.2
printf %s "$folders" | while read -r folder; do rm -rf "$folder"; done
"#;

/// The shell. Dropped, it does its work, and the drop waits for it.
#[derive(Debug)]
pub struct Reaper(Mutex<Child>);

impl Default for Reaper {
    fn default() -> Self {
        Self::start()
    }
}

impl Reaper {
    /// With nothing to clear away yet.
    #[must_use]
    pub fn start() -> Self {
        let shell = Command::new("sh")
            .args(["-c", SCRIPT, "reaper"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        Self(Mutex::new(shell.expect("sh runs")))
    }

    /// To be killed.
    pub fn process(&self, pid: u32) {
        self.order("process", pid);
    }

    /// Not any more: it has ended and was waited for, so its id may soon belong to another.
    pub fn gone(&self, pid: u32) {
        self.order("gone", pid);
    }

    /// A network namespace to be deleted.
    pub fn namespace(&self, name: &str) {
        self.order("namespace", name);
    }

    /// A network link to be deleted.
    pub fn link(&self, name: &str) {
        self.order("link", name);
    }

    /// A folder to be deleted.
    pub fn folder(&self, path: &Path) {
        self.order("folder", path.display());
    }

    fn order(&self, order: &str, name: impl std::fmt::Display) {
        let mut shell = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let pipe = shell.stdin.as_mut().expect("it is piped until the drop");
        writeln!(pipe, "{order} {name}").expect("the reaper reads until its end");
    }
}

impl Drop for Reaper {
    fn drop(&mut self) {
        let shell = self.0.get_mut().unwrap_or_else(PoisonError::into_inner);
        drop(shell.stdin.take());
        _ = shell.wait();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn sleeper() -> Child {
        Command::new("sleep").arg("600").spawn().expect("sleep runs")
    }

    #[test]
    fn what_it_was_told_of_ends_with_it_and_what_is_gone_is_left_alone() {
        let folder = std::env::temp_dir().join(format!("hearth-reaper-{}", std::process::id()));
        std::fs::create_dir_all(folder.join("deep")).expect("a folder");
        let (mut first, mut spared, mut last) = (sleeper(), sleeper(), sleeper());
        let reaper = Reaper::start();
        reaper.folder(&folder);
        for child in [&first, &spared, &last] {
            reaper.process(child.id());
        }
        reaper.gone(spared.id());
        drop(reaper);
        for child in [&mut first, &mut last] {
            assert!(!child.wait().expect("its end").success());
        }
        assert!(!folder.exists());
        std::thread::sleep(Duration::from_millis(50));
        assert!(spared.try_wait().expect("its state").is_none(), "it was said to be gone");
        spared.kill().expect("a signal");
        spared.wait().expect("its end");
    }
}
