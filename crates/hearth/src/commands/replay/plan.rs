//! Who says what, when, and under which id. Pure but for the id of the run.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::time::Duration;

use wire::{ClientMsgId, ConversationId, MessageId, UserId, limits};

use super::log::{Line, Log, Skipped};

/// Everything that will be said.
pub(super) struct Plan {
    /// A member of every group, who says nothing and reads everything.
    pub(super) observer: UserId,
    pub(super) files: Vec<PlannedFile>,
    /// All messages of all files.
    pub(super) sends: Vec<Send>,
    /// In the order in which they first speak.
    pub(super) authors: Vec<Author>,
    pub(super) skipped: Skipped,
    by_message: HashMap<String, usize>,
}

/// One file, one group.
pub(super) struct PlannedFile {
    /// As it was named on the command line.
    pub(super) file: String,
    /// The name of its group.
    pub(super) name: String,
    /// Who speaks in it.
    pub(super) authors: BTreeSet<UserId>,
    /// Once the stage is set.
    pub(super) conversation: Option<ConversationId>,
}

/// One message.
pub(super) struct Send {
    /// Which file.
    pub(super) file: usize,
    pub(super) author: UserId,
    pub(super) text: String,
    /// The same for every retry.
    pub(super) id: ClientMsgId,
    /// After the start; zero without a speed.
    pub(super) due: Duration,
}

/// One user and their lines.
pub(super) struct Author {
    pub(super) user: UserId,
    /// For each file in which they speak, their lines in order, as places in [`Plan::sends`].
    pub(super) lanes: Vec<Vec<usize>>,
    /// When they first speak.
    pub(super) due: Duration,
}

impl Plan {
    /// With a speed, a line comes as many minutes after the first as in the log, divided by it;
    /// lines of one minute are spread over it.
    ///
    /// # Errors
    /// When the operating system has no random numbers.
    pub(super) fn new(logs: Vec<Log>, speed: Option<f64>) -> anyhow::Result<Self> {
        let run =
            getrandom::u64().map_err(|error| anyhow::anyhow!("no random numbers: {error}"))?;
        Self::with_run(logs, speed, run)
    }

    fn with_run(logs: Vec<Log>, speed: Option<f64>, run: u64) -> anyhow::Result<Self> {
        let (mut files, mut sends, mut skipped) = (Vec::new(), Vec::new(), Skipped::default());
        for (file, log) in logs.into_iter().enumerate() {
            skipped += log.skipped;
            files.push(PlannedFile {
                name: group_name(&log.file),
                authors: log.lines.iter().map(|line| line.author.clone()).collect(),
                file: log.file,
                conversation: None,
            });
            let dues = dues(&log.lines, speed);
            for (line, due) in log.lines.into_iter().zip(dues) {
                let id = ClientMsgId::new(format!("replay-{run:016x}-{file}-{}", line.number))?;
                sends.push(Send { file, author: line.author, text: line.text, id, due });
            }
        }
        let authors = authors(&sends, files.len());
        let observer = observer(&files)?;
        Ok(Self { observer, files, sends, authors, skipped, by_message: HashMap::new() })
    }

    /// Once every file has its conversation: what every message will be called.
    pub(super) fn name_messages(&mut self) {
        let ids = self.sends.iter().enumerate().filter_map(|(n, send)| {
            let conversation = self.files[send.file].conversation?;
            Some((MessageId::derive(&conversation, &send.author, &send.id).to_string(), n))
        });
        self.by_message = ids.collect();
    }

    /// The conversation of a message.
    pub(super) fn conversation(&self, send: &Send) -> ConversationId {
        self.files[send.file].conversation.expect("the stage is set before anyone speaks")
    }

    /// Which of the sends a message is.
    pub(super) fn send_of(&self, message_id: &str) -> Option<usize> {
        self.by_message.get(message_id).copied()
    }
}

fn dues(lines: &[Line], speed: Option<f64>) -> Vec<Duration> {
    let Some(speed) = speed else { return vec![Duration::ZERO; lines.len()] };
    let start = lines.first().map_or(0, |line| line.minute);
    let mut dues = Vec::with_capacity(lines.len());
    for same in lines.chunk_by(|a, b| a.minute == b.minute) {
        for n in 0..same.len() {
            let minutes = (same[0].minute - start) as f64 + n as f64 / same.len() as f64;
            dues.push(
                Duration::try_from_secs_f64(minutes * 60.0 / speed).unwrap_or(Duration::MAX / 4),
            );
        }
    }
    dues
}

fn authors(sends: &[Send], files: usize) -> Vec<Author> {
    let mut order: Vec<_> = (0..sends.len()).collect();
    // Without a speed all are due at once: then files take turns, line by line.
    let mut places = vec![0; files];
    let turn: Vec<usize> = sends
        .iter()
        .map(|send| {
            places[send.file] += 1;
            places[send.file]
        })
        .collect();
    order.sort_by_key(|&n| (sends[n].due, turn[n], n));
    let mut found: BTreeMap<&UserId, usize> = BTreeMap::new();
    let mut authors: Vec<(Author, BTreeMap<usize, Vec<usize>>)> = Vec::new();
    for n in order {
        let send = &sends[n];
        let at = *found.entry(&send.author).or_insert_with(|| {
            let author = Author { user: send.author.clone(), lanes: Vec::new(), due: send.due };
            authors.push((author, BTreeMap::new()));
            authors.len() - 1
        });
        authors[at].1.entry(send.file).or_default().push(n);
    }
    authors
        .into_iter()
        .map(|(author, lanes)| Author { lanes: lanes.into_values().collect(), ..author })
        .collect()
}

/// `observer`, unless an author is called so.
fn observer(files: &[PlannedFile]) -> anyhow::Result<UserId> {
    let taken = |name: &UserId| files.iter().any(|file| file.authors.contains(name));
    let first = UserId::new("observer")?;
    if !taken(&first) {
        return Ok(first);
    }
    for n in 2.. {
        let name = UserId::new(format!("observer-{n}"))?;
        if !taken(&name) {
            return Ok(name);
        }
    }
    unreachable!("there are fewer authors than numbers")
}

fn group_name(file: &str) -> String {
    let stem = Path::new(file)
        .file_stem()
        .map(|stem| stem.to_string_lossy().into_owned())
        .unwrap_or_default();
    let mut name = if stem.is_empty() { "log".to_owned() } else { stem };
    while name.len() > limits::GROUP_NAME_BYTES {
        name.pop();
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(file: &str, lines: &[(u64, &str)]) -> Log {
        let line = |(n, (minute, author)): (usize, &(u64, &str))| Line {
            number: n + 1,
            minute: *minute,
            author: UserId::new(author).unwrap(),
            text: format!("{file} {n}"),
        };
        Log {
            file: file.into(),
            lines: lines.iter().enumerate().map(line).collect(),
            skipped: Skipped::default(),
        }
    }

    #[test]
    fn every_author_has_his_lines_in_order_by_file() {
        let logs = vec![
            log("a.raw.txt", &[(5, "ann"), (5, "bob"), (6, "ann")]),
            log("b", &[(1, "cid"), (2, "ann")]),
        ];
        let plan = Plan::with_run(logs, None, 7).unwrap();
        let names: Vec<_> = plan.authors.iter().map(|author| author.user.as_str()).collect();
        assert_eq!(names, ["ann", "cid", "bob"]);
        assert_eq!(plan.authors[0].lanes, [vec![0, 2], vec![4]]);
        assert_eq!((plan.files[0].name.as_str(), plan.observer.as_str()), ("a.raw", "observer"));
        let ids: BTreeSet<_> = plan.sends.iter().map(|send| send.id.as_str().to_owned()).collect();
        assert_eq!(ids.len(), 5);
        assert!(plan.sends.iter().all(|send| send.due == Duration::ZERO));
    }

    #[test]
    fn with_a_speed_the_minutes_shrink_and_their_lines_are_spread() {
        let logs = vec![log("a", &[(60, "ann"), (61, "bob"), (61, "ann"), (63, "ann")])];
        let plan = Plan::with_run(logs, Some(60.0), 7).unwrap();
        let dues: Vec<_> = plan.sends.iter().map(|send| send.due.as_secs_f64()).collect();
        assert_eq!(dues, [0.0, 1.0, 1.5, 3.0]);
        assert_eq!(plan.authors[1].due, Duration::from_secs(1));
    }

    #[test]
    fn an_author_called_observer_keeps_his_name() {
        let logs = vec![log("a", &[(0, "observer"), (0, "observer-2")])];
        assert_eq!(Plan::with_run(logs, None, 7).unwrap().observer.as_str(), "observer-3");
    }
}
