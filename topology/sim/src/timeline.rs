//! The timeline of one run: bounded, fed by the run itself and by the logs of the production code.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use crate::outcome::Entry;

/// Lines kept without `everything`; the oldest are dropped first.
const LINES_MAX: usize = 4_000;
/// Lines kept with it.
const ALL_LINES_MAX: usize = 400_000;

thread_local! {
    static WHO: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Attributes later log lines to this machine.
pub fn enter(name: &str) {
    WHO.with_borrow_mut(|who| {
        who.clear();
        who.push_str(name);
    });
}

/// Attributes later log lines to the world.
pub fn leave() {
    enter("the world");
}

/// The timeline of one run; cheap to clone.
#[derive(Clone, Default)]
pub struct Timeline {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    now_ms: u64,
    origin_ms: u64,
    everything: bool,
    lines: VecDeque<Entry>,
}

impl Timeline {
    /// An empty timeline. `everything`: with each message.
    #[must_use]
    pub fn new(everything: bool) -> Self {
        let timeline = Self::default();
        timeline.lock().everything = everything;
        timeline
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets the time.
    pub fn set_now(&self, now_ms: u64) {
        self.lock().now_ms = now_ms;
    }

    /// Later times are relative to this moment.
    pub fn set_origin(&self, origin_ms: u64) {
        self.lock().origin_ms = origin_ms;
    }

    /// Something happened.
    pub fn add(&self, who: impl Into<String>, what: impl Into<String>) {
        let mut inner = self.lock();
        let at_ms = inner.now_ms.saturating_sub(inner.origin_ms);
        let most = if inner.everything { ALL_LINES_MAX } else { LINES_MAX };
        if inner.lines.len() >= most {
            inner.lines.pop_front();
        }
        inner.lines.push_back(Entry { at_ms, who: who.into(), what: what.into() });
    }

    /// Adds a line that only `everything` keeps.
    pub fn detail(&self, who: &str, what: impl FnOnce() -> String) {
        if self.lock().everything {
            self.add(who, what());
        }
    }

    /// The lines, oldest first.
    #[must_use]
    pub fn entries(&self) -> Vec<Entry> {
        self.lock().lines.iter().cloned().collect()
    }
}

/// Log lines of the production code enter the timeline.
impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Timeline {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut shard = OfShard::default();
        attributes.record(&mut shard);
        if let (OfShard(Some(shard)), Some(span)) = (shard, context.span(id)) {
            span.extensions_mut().insert(OfShard(Some(shard)));
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let metadata = event.metadata();
        let ours = metadata.target().starts_with("hearth_");
        let most = if self.lock().everything { Level::DEBUG } else { Level::INFO };
        if !ours || *metadata.level() > most {
            return;
        }
        let mut words = Words::default();
        event.record(&mut words);
        let spans = context.event_scope(event).into_iter().flatten();
        let shard =
            spans.into_iter().find_map(|span| span.extensions().get::<OfShard>()?.0.clone());
        if let Some(shard) = shard {
            words.fields.push_str(" of ");
            words.fields.push_str(&shard);
        }
        let who = WHO.with_borrow(String::clone);
        self.add(who, words.message + &words.fields);
    }
}

/// The shard of a span.
#[derive(Default)]
struct OfShard(Option<String>);

impl Visit for OfShard {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        if field.name() == "shard" {
            self.0 = Some(format!("{value:?}"));
        }
    }
}

#[derive(Default)]
struct Words {
    message: String,
    fields: String,
}

impl Visit for Words {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        // Into a String nothing fails.
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
    }
}
