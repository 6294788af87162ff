//! `hearth replay` as a process, watched while it runs.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Output, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use crate::eventually;
use crate::mesh::Mesh;

/// A replay of real logs through a mesh.
pub struct Replay {
    process: Child,
    progress: Arc<Mutex<Progress>>,
    reader: JoinHandle<()>,
}

/// The progress of a replay.
#[derive(Clone, Copy, Debug, Default)]
pub struct Progress {
    /// Messages that the mesh has acknowledged.
    pub acked: u64,
    /// Messages of all logs. 0 until the replay has told.
    pub planned: u64,
}

impl Replay {
    /// Starts one.
    #[must_use]
    pub fn start(mesh: &Mesh, logs: &[PathBuf]) -> Self {
        let mut command = mesh.command(&["replay", "--json"]);
        let piped = command.args(logs).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = piped.spawn().expect("hearth replay starts");
        let lines = BufReader::new(process.stderr.take().expect("it is piped"));
        let progress = Arc::new(Mutex::new(Progress::default()));
        let told = Arc::clone(&progress);
        let reader = thread::spawn(move || {
            for line in lines.lines().map_while(Result::ok) {
                match Progress::read(&line) {
                    Some(now) => *told.lock().unwrap_or_else(PoisonError::into_inner) = now,
                    None => eprintln!("{line}"),
                }
            }
        });
        Self { process, progress, reader }
    }

    #[must_use]
    pub fn progress(&self) -> Progress {
        *self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until this many percent of all messages are acknowledged. Then some are still to come.
    ///
    /// # Panics
    /// When that takes too long; and when the replay is over, because then nothing is tested.
    pub async fn until_acked(&mut self, percent: u64) -> Progress {
        let now = eventually(&format!("{percent} % acknowledged"), || async {
            let now = self.progress();
            (now.planned > 0 && now.acked * 100 >= now.planned * percent).then_some(now)
        })
        .await;
        self.assert_running();
        now
    }

    /// # Panics
    /// When the replay is over.
    pub fn assert_running(&mut self) {
        let Progress { acked, planned } = self.progress();
        let ended = self.process.try_wait().expect("its state");
        assert!(
            ended.is_none() && acked < planned,
            "the replay was over too early to test anything: {acked} of {planned} acknowledged, {ended:?}"
        );
    }

    /// Waits for its end. Blocks.
    ///
    /// # Panics
    /// When it cannot be read.
    #[must_use]
    pub fn end(self) -> Output {
        let output = self.process.wait_with_output().expect("its end");
        self.reader.join().expect("its lines were read");
        output
    }
}

impl Progress {
    /// Reads "replay: 12 of 300 messages acknowledged".
    fn read(line: &str) -> Option<Self> {
        let (acked, rest) = line.strip_prefix("replay: ")?.split_once(" of ")?;
        let (planned, _) = rest.split_once(' ')?;
        Some(Self { acked: acked.parse().ok()?, planned: planned.parse().ok()? })
    }
}
