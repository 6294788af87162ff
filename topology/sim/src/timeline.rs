//! What happened to whom: a bounded memory of one run, fed by the run itself and by the logs of the production code.

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

/// Lines kept without `everything`; the oldest go first.
const LINES_MAX: usize = 4_000;
/// Lines kept with it.
const ALL_LINES_MAX: usize = 400_000;

thread_local! {
    static WHO: RefCell<String> = const { RefCell::new(String::new()) };
}

/// What is logged from now on is this machine's.
pub fn enter(name: &str) {
    WHO.with_borrow_mut(|who| {
        who.clear();
        who.push_str(name);
    });
}

/// What is logged from now on is the world's.
pub fn leave() {
    enter("the world");
}

/// The memory of one run; cheap to clone.
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
    /// Empty. `everything`: messages, too, line by line.
    #[must_use]
    pub fn new(everything: bool) -> Self {
        let timeline = Self::default();
        timeline.lock().everything = everything;
        timeline
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It is so late.
    pub fn set_now(&self, now_ms: u64) {
        self.lock().now_ms = now_ms;
    }

    /// Times are told from now on after this moment.
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

    /// Something happened that only who wants to see everything wants to see.
    pub fn detail(&self, who: &str, what: impl FnOnce() -> String) {
        if self.lock().everything {
            self.add(who, what());
        }
    }

    /// What is remembered, oldest first.
    #[must_use]
    pub fn entries(&self) -> Vec<Entry> {
        self.lock().lines.iter().cloned().collect()
    }
}

/// What the production code logs of itself and of the mesh goes into the timeline.
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

/// Which shard a span is about.
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
