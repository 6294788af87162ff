//! One request on one conversation in memory: handed to the part that answers it, or back if it has
//! to wait. Each part owns its state; this holds nothing of its own.

use conversation::log::LogFrame;
use conversation::moving::redirects::Redirect;
use conversation::shard::Term;
use node::clock;
use tokio::sync::mpsc;
use wire::command::Refusal;
use wire::{ConversationId, Durability, ErrorCode};

use super::OwnerOptions;
use super::cache::CacheSlot;
use super::commit::batch::Pending;
use super::decide::{Decider, ReplyTo};
use super::dedupe_lookup::{DedupeLookups, Lookup, QueuedRequest, settled};
use super::entry::Entry;
use super::load::Loader;
use super::projector::Projected;
use super::query::Queries;
use super::reads::Reads;
use super::relocation::Relocation;
use super::watch::Watches;
use crate::feed::Feed;
use crate::feed::replay::{self, After};
use crate::owner::input::{Ask, Input};

pub(super) struct Dispatch {
    pub(super) decider: Decider,
    pub(super) relocation: Relocation,
    pub(super) feed: Feed,
    pub(super) loader: Loader,
    pub(super) lookups: DedupeLookups,
    pub(super) queries: Queries,
    pub(super) watches: Watches,
}

impl Dispatch {
    pub(super) fn new(
        options: &OwnerOptions,
        term: &Term,
        relocation: Relocation,
        projected: Projected,
        replays: mpsc::Sender<replay::Done>,
    ) -> Self {
        let OwnerOptions { shard, store, limits, tasks, .. } = options;
        let region = options.node.region;
        let last = term.tail.last().and_then(|row| LogFrame::from_row(row).ok());
        let last_ts_ms = last.map_or(0, |frame| frame.ts_ms);
        let reads = Reads::new(store.clone(), projected.clone(), limits.reads_at_once);
        Self {
            decider: Decider {
                region,
                shard: *shard,
                epoch: term.epoch,
                starts: term.starts.clone(),
                now_ms: clock::unix_ms(),
                pending: Pending::new(term.epoch, term.start, last_ts_ms),
                progress: options.progress.clone(),
            },
            relocation,
            feed: Feed::new(limits.deliveries_behind_replay),
            loader: Loader::new(store.clone(), *shard, term.starts.clone(), limits.loads_at_once),
            lookups: DedupeLookups::new(store.clone()),
            watches: Watches {
                region,
                store: store.clone(),
                projected,
                reading: reads.reading.clone(),
                replays,
                tasks: tasks.clone(),
            },
            queries: Queries { region, reads, tasks: tasks.clone() },
        }
    }

    /// Does what is asked, or hands it back when it has to wait: for a lookup, for a membership
    /// change to be committed, for a move to finish, for the projector.
    #[allow(
        clippy::result_large_err,
        reason = "what has to wait is moved into a queue, and seldom"
    )]
    pub(super) fn attempt(
        &mut self,
        entry: &mut Entry,
        queued: QueuedRequest,
    ) -> Result<(), QueuedRequest> {
        if let Some(rid) = queued.input.ask.rid()
            && let Some(redirect) = self.relocation.redirect(entry, self.decider.shard)
        {
            return self.redirect(entry, queued, rid, redirect);
        }
        let QueuedRequest { input: Input { from, ask }, lookup } = queued;
        let waits = |from, ask, lookup| Err(QueuedRequest { input: Input { from, ask }, lookup });
        let committed = self.decider.pending.committed();
        match ask {
            ask @ (Ask::Command { .. } | Ask::Recover { .. }) => {
                return self.change(entry, Input { from, ask }, lookup);
            }
            // Who may read, and who is shown as a member, must be committed.
            ask @ (Ask::Query { .. } | Ask::Watch { .. }) if !entry.is_membership_committed() => {
                return waits(from, ask, lookup);
            }
            Ask::Query { rid, actor, conversation, query } => {
                let to = ReplyTo { outbox: from, rid };
                self.queries.answer(entry, to, (actor, conversation), query, committed);
            }
            Ask::Watch { rid, conversation, after_ver, users, after_epoch } => {
                // With multi-region durability what an edge has was acknowledged, and is never
                // lost.
                let epoch =
                    after_epoch.filter(|_| self.decider.shard.durability == Durability::Region);
                let after = after_ver.map(|ver| After { ver, epoch });
                let to = ReplyTo { outbox: from, rid };
                let what = (conversation, after);
                self.watches.start(&mut self.feed, entry, to, what, &users, committed);
            }
            Ask::Unwatch { conversation } => self.feed.unwatch(&from, &conversation),
            Ask::Attach | Ask::Detach => {}
        }
        Ok(())
    }

    #[allow(clippy::result_large_err, reason = "as `attempt`")]
    fn redirect(
        &mut self,
        entry: &Entry,
        queued: QueuedRequest,
        rid: u64,
        redirect: Redirect,
    ) -> Result<(), QueuedRequest> {
        let id = entry.conversation.id();
        match redirect {
            Redirect::Wait => Err(queued),
            Redirect::Reload { begin } => {
                if begin {
                    self.loader.reload(id);
                }
                Err(queued)
            }
            Redirect::To(home) => {
                queued.input.from.moved(Some(rid), id, home);
                Ok(())
            }
        }
    }

    /// A request that may change the conversation.
    #[allow(clippy::result_large_err, reason = "as `attempt`")]
    fn change(
        &mut self,
        entry: &mut Entry,
        input: Input,
        lookup: Lookup,
    ) -> Result<(), QueuedRequest> {
        if matches!(lookup, Lookup::Failed) {
            refuse_unreadable(input, "what was sent before cannot be read");
            return Ok(());
        }
        let seen = match settled(entry, &input.ask, lookup) {
            Ok(seen) => seen,
            Err(lookup) => return Err(QueuedRequest { input, lookup }),
        };
        let Input { from: outbox, ask } = input;
        match ask {
            Ask::Command { rid, actor, command, .. } => {
                let to = ReplyTo { outbox, rid };
                self.decider.decide(entry, to, &actor, command, seen.as_ref());
            }
            Ask::Recover { rid, stranded, first_seq } => {
                let to = ReplyTo { outbox, rid };
                self.decider.recover(entry, to, &stranded, seen.as_ref(), first_seq);
            }
            Ask::Attach
            | Ask::Detach
            | Ask::Query { .. }
            | Ask::Watch { .. }
            | Ask::Unwatch { .. } => {}
        }
        Ok(())
    }

    /// Asks the store about the send with this ticket, if its turn will need it.
    pub(super) fn look_up(&mut self, id: ConversationId, slot: &mut CacheSlot, ticket: u64) {
        self.loader.push(self.lookups.ask(id, slot, ticket));
    }
}

/// Refuses a request about what the store cannot show, now or later.
pub(super) fn refuse_unreadable(input: Input, message: &str) {
    if let Some(rid) = input.ask.rid() {
        input.from.reply(rid, Err(Refusal::new(ErrorCode::Internal, message)));
    }
}
