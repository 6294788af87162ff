//! What was sent, acknowledged and seen, by whom; and whether anything still moves.

use std::fmt;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use client::Ack;
use conversation::invariants::{Checker, Observed};
use hdrhistogram::Histogram;
use tokio::time::Instant;
use wire::client::event::MessagePayload;
use wire::{ClientMsgId, ConversationId, Epoch};

use super::plan::{Plan, Send};

/// Longest wait that is told apart, microseconds.
const HOUR_US: u64 = 3_600_000_000;
/// Troubles kept in words.
const TROUBLES_MAX: usize = 20;

pub(super) struct Ledger {
    plan: Arc<Plan>,
    quiet_timeout: Duration,
    watchers: usize,
    began: Mutex<Instant>,
    /// When each message was handed to its client, microseconds after the start; 0 before.
    sent_us: Vec<AtomicU64>,
    /// The highest acknowledged seq of each file.
    heads: Vec<AtomicU64>,
    /// The last seq each watcher saw of each file.
    seen: Vec<Vec<AtomicU64>>,
    acked: AtomicU64,
    delivered: AtomicU64,
    reconnects: AtomicU64,
    in_flight: AtomicI64,
    moved_us: AtomicU64,
    inner: Mutex<Inner>,
}

struct Inner {
    checker: Checker,
    ack_us: Histogram<u64>,
    deliver_us: Histogram<u64>,
    troubles: Vec<String>,
}

/// How far it is.
pub(super) struct Now {
    pub(super) planned: u64,
    pub(super) acked: u64,
    delivered: u64,
    watchers: u64,
    reconnects: u64,
    still_s: u64,
}

impl fmt::Display for Now {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { planned, delivered, watchers, reconnects, still_s, .. } = self;
        write!(f, "{delivered}/{} seen by {watchers} watchers", planned * watchers)?;
        if *reconnects > 0 {
            write!(f, ", {reconnects} reconnects")?;
        }
        if *still_s >= 2 {
            write!(f, ", waiting for {still_s} s")?;
        }
        Ok(())
    }
}

impl Ledger {
    pub(super) fn new(plan: Arc<Plan>, watchers: usize, quiet_timeout: Duration) -> Self {
        let zeros = |n: usize| (0..n).map(|_| AtomicU64::new(0)).collect::<Vec<_>>();
        let histogram =
            || Histogram::new_with_bounds(1, HOUR_US, 3).expect("three digits are a precision");
        Self {
            quiet_timeout,
            watchers,
            began: Mutex::new(Instant::now()),
            sent_us: zeros(plan.sends.len()),
            heads: zeros(plan.files.len()),
            seen: (0..watchers).map(|_| zeros(plan.files.len())).collect(),
            acked: AtomicU64::new(0),
            delivered: AtomicU64::new(0),
            reconnects: AtomicU64::new(0),
            in_flight: AtomicI64::new(0),
            moved_us: AtomicU64::new(0),
            inner: Mutex::new(Inner {
                checker: Checker::new(),
                ack_us: histogram(),
                deliver_us: histogram(),
                troubles: Vec::new(),
            }),
            plan,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The clock starts.
    pub(super) fn begin(&self) {
        *self.began.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        self.moved_us.store(0, Relaxed);
    }

    pub(super) fn began(&self) -> Instant {
        *self.began.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.began().elapsed()
    }

    pub(super) fn quiet_timeout(&self) -> Duration {
        self.quiet_timeout
    }

    fn now_us(&self) -> u64 {
        u64::try_from(self.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    fn moved(&self) {
        self.moved_us.store(self.now_us(), Relaxed);
    }

    /// An author hands this to their client now, as the next of this lane.
    pub(super) fn sending(&self, n: usize, lane: u64) {
        let send = &self.plan.sends[n];
        // From quiet to busy: the quiet timeout starts here.
        if self.in_flight.fetch_add(1, Relaxed) == 0 {
            self.moved();
        }
        self.lock().checker.sent(
            lane,
            self.plan.conversation(send),
            &send.author,
            &send.id,
            &send.text,
        );
        self.sent_us[n].store(self.now_us().max(1), Relaxed);
    }

    /// It was acknowledged.
    pub(super) fn acked(&self, n: usize, ack: &Ack) {
        let send = &self.plan.sends[n];
        let took = self.now_us().saturating_sub(self.sent_us[n].load(Relaxed));
        let Ack { seq, epoch, ts_ms, duplicate, .. } = *ack;
        let ack = wire::command::Ack { seq, epoch: Epoch(epoch), ts_ms, duplicate };
        let mut inner = self.lock();
        inner.checker.acked(self.plan.conversation(send), &send.author, &send.id, &ack);
        inner.ack_us.saturating_record(took);
        drop(inner);
        self.heads[send.file].fetch_max(seq, Relaxed);
        self.in_flight.fetch_sub(1, Relaxed);
        self.acked.fetch_add(1, Relaxed);
        self.moved();
    }

    /// It will not be.
    pub(super) fn refused(&self, n: usize, why: &client::SendError) {
        let Send { author, file, .. } = &self.plan.sends[n];
        self.in_flight.fetch_sub(1, Relaxed);
        self.trouble(format!("{author} in {}: {why}", self.plan.files[*file].file));
    }

    /// Something worth telling, if the run fails.
    pub(super) fn trouble(&self, what: String) {
        let mut inner = self.lock();
        if inner.troubles.len() < TROUBLES_MAX {
            inner.troubles.push(what);
        }
    }

    pub(super) fn reconnecting(&self) {
        self.reconnects.fetch_add(1, Relaxed);
    }

    /// A watcher was shown a message live.
    pub(super) fn seen(
        &self,
        watcher: usize,
        name: &str,
        conversation: ConversationId,
        message: &MessagePayload,
    ) {
        let Some(file) = self.file_of(conversation) else { return };
        self.observe(name, conversation, message);
        if let Some(n) = self.plan.send_of(&message.message_id) {
            let sent = self.sent_us[n].load(Relaxed);
            let took = self.now_us().saturating_sub(sent);
            self.lock().deliver_us.saturating_record(took);
        }
        self.seen[watcher][file].fetch_max(message.seq, Relaxed);
        self.delivered.fetch_add(1, Relaxed);
        self.moved();
    }

    /// Someone was shown a message, live or in history.
    pub(super) fn observe(
        &self,
        observer: &str,
        conversation: ConversationId,
        message: &MessagePayload,
    ) {
        // Live messages carry no client_msg_id; the message's own id tells which send it is. One
        // that nobody here sent stands for itself.
        let known = self.plan.send_of(&message.message_id).map(|n| self.plan.sends[n].id.clone());
        let id = known.or_else(|| ClientMsgId::new(&message.message_id).ok());
        let Some(observed) = id.and_then(|id| Observed::of_payload(message, id)) else {
            self.trouble(format!(
                "{observer}: message {} of {conversation} has no good id",
                message.seq
            ));
            return;
        };
        self.lock().checker.observed(observer, conversation, &observed);
    }

    fn file_of(&self, conversation: ConversationId) -> Option<usize> {
        self.plan.files.iter().position(|file| file.conversation == Some(conversation))
    }

    /// The files of which this watcher has not seen everything that was acknowledged.
    pub(super) fn missing(&self, watcher: usize) -> Vec<usize> {
        let behind = |file: &usize| {
            self.seen[watcher][*file].load(Relaxed) < self.heads[*file].load(Relaxed)
        };
        (0..self.plan.files.len()).filter(behind).collect()
    }

    /// How long nothing was acknowledged or seen although something should be.
    pub(super) fn still(&self) -> Duration {
        let waiting = self.in_flight.load(Relaxed) > 0
            || (0..self.watchers).any(|n| !self.missing(n).is_empty());
        if !waiting {
            self.moved();
        }
        Duration::from_micros(self.now_us().saturating_sub(self.moved_us.load(Relaxed)))
    }

    /// Returns when nothing has moved for the quiet timeout. Cancel safe.
    pub(super) async fn stuck(&self) -> anyhow::Error {
        while self.still() < self.quiet_timeout {
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
        let Now { planned, acked, .. } = self.now();
        let trouble = self
            .lock()
            .troubles
            .last()
            .map(|why| format!("; last trouble: {why}"))
            .unwrap_or_default();
        anyhow::anyhow!(
            "nothing moved for {} s: {acked} of {planned} messages are acknowledged{trouble}",
            self.quiet_timeout.as_secs()
        )
    }

    pub(super) fn now(&self) -> Now {
        Now {
            planned: self.plan.sends.len() as u64,
            acked: self.acked.load(Relaxed),
            delivered: self.delivered.load(Relaxed),
            watchers: self.watchers as u64,
            reconnects: self.reconnects.load(Relaxed),
            still_s: self.still().as_secs(),
        }
    }

    /// These observers should have seen everything of these conversations. What was found, now that
    /// all is told.
    pub(super) fn report(&self, observers: &[String]) -> conversation::invariants::Report {
        let mut inner = self.lock();
        for conversation in self.plan.files.iter().filter_map(|file| file.conversation) {
            for observer in observers {
                inner.checker.complete(observer, conversation, 1);
            }
        }
        inner.checker.report()
    }

    /// Milliseconds from send to ack, and from send to each watcher: (median, 99th percentile) of
    /// each.
    pub(super) fn latencies_ms(&self) -> [(f64, f64); 2] {
        let inner = self.lock();
        [&inner.ack_us, &inner.deliver_us].map(|histogram| {
            let ms = |quantile| histogram.value_at_quantile(quantile) as f64 / 1000.0;
            (ms(0.5), ms(0.99))
        })
    }

    pub(super) fn troubles(&self) -> Vec<String> {
        self.lock().troubles.clone()
    }

    pub(super) fn reconnects(&self) -> u64 {
        self.reconnects.load(Relaxed)
    }
}
