//! One request on one conversation that is in memory: decided, or fetched, or not yet possible.
//!
//! The rules stand in `conversation`; here is what surrounds them: on which slot an answer waits, what is asked of the
//! store first, who watches from where.

use std::collections::{BTreeMap, BTreeSet, btree_map};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use conversation::dedupe::Seen;
use conversation::moving::{DecisionContext, Offer};
use conversation::sequencer::{Conversation, Decision, Outcome as Decided, Replayed};
use conversation::shard::Starts;
use futures_util::stream::FuturesUnordered;
use store::{Store, StoreError};
use tokio::sync::{Semaphore, mpsc};
use wire::change::{Change, Event, Home};
use wire::command::{Actor, Answer, Command, MeshCommand, Query, Refusal, UserCommand, View};
use wire::{
    ClientMsgId, ConversationId, ConversationKind, Durability, Epoch, ErrorCode, Position,
    RegionId, ShardId, Slot, UserId,
};

use super::cache::{CacheSlot, Entry, Lookup, QueuedRequest};
use super::commit::batch::{Pending, PendingReply};
use super::moves::Moves;
use super::reads::{LINES_MAX, Read, Reads};
use crate::feed::Feed;
use crate::feed::replay::{self, After};
use crate::intake::outbox::{Outbox, Outcome};
use crate::intake::{Ask, Input};
use crate::replication::watermark::ReplicationWatermark;
use crate::retry::retry_forever;
use crate::shard_client::system_actor;
use crate::status::Progress;
use crate::tasks::Tasks;

/// Lookups of sends in the store that are under way ahead of their turn; the others are asked when it is.
const LOOKUPS_AT_ONCE: usize = 1_024;

/// Changes read at once when a conversation is replayed.
const CHANGES_AT_ONCE: usize = 1_024;

/// What was unconfirmed is read again after this time.
const RELOAD_INTERVAL: Duration = Duration::from_millis(300);
/// Arrivals of which it is not known that they are everywhere; of more than that it is found out from the start each time they are
/// asked for.
const AWAITED_MAX: usize = 4_096;

/// Something read from the store for a request that waits for it.
pub(super) enum Fetched {
    /// A conversation.
    Conversation { id: ConversationId, loaded: Loaded },
    /// A conversation that is offered to this shard.
    Offered { offered: Offered, loaded: Loaded },
    /// A conversation of which there was unconfirmed only ([`Entry::is_certain`]).
    Again { id: ConversationId, loaded: Loaded },
    /// What a send became.
    Lookup {
        id: ConversationId,
        ticket: u64,
        projected_then: u64,
        seen: Result<Option<Seen>, StoreError>,
    },
}

/// An offer and who waits for the answer.
pub(super) struct Offered {
    pub(super) offer: Offer,
    pub(super) to: Arc<Outbox>,
    pub(super) rid: u64,
}

/// A conversation as the store has it.
pub(super) type Loaded = Result<Box<Conversation>, StoreError>;

pub(super) type Fetch = Pin<Box<dyn Future<Output = Fetched> + Send>>;

/// What requests are worked with.
pub(super) struct Work {
    pub(super) region: RegionId,
    pub(super) shard: ShardId,
    pub(super) epoch: Epoch,
    pub(super) starts: Starts,
    /// The wall clock, milliseconds since 1970, read once a turn.
    pub(super) now_ms: u64,
    pub(super) store: Arc<dyn Store>,
    pub(super) tasks: Tasks,
    pub(super) pending: Pending,
    pub(super) feed: Feed,
    pub(super) moves: Moves,
    pub(super) watermark: ReplicationWatermark,
    /// What is to be everywhere before somebody hears of it: by conversation and the number of the move, everything before this slot.
    pub(super) awaiting_replication: BTreeMap<(ConversationId, u64), Slot>,
    pub(super) progress: Arc<Progress>,
    /// Conversations with requests that wait to be told where they are.
    pub(super) away: BTreeSet<ConversationId>,
    /// Those that are read again soon: where they are was unconfirmed.
    pub(super) unconfirmed: BTreeSet<ConversationId>,
    /// Those that have left, and who watches them is not told yet: where to, and before which slot they left.
    pub(super) departing: BTreeMap<ConversationId, (Home, Slot)>,
    pub(super) reads: Reads,
    pub(super) replays: mpsc::Sender<replay::Done>,
    /// One permit a conversation that is being read.
    pub(super) loading: Arc<Semaphore>,
    /// Under way.
    pub(super) fetches: FuturesUnordered<Fetch>,
    /// Lookups among them.
    pub(super) lookups: usize,
}

impl Work {
    /// Does what is asked, or hands it back when it has to wait: for a lookup, for a turn to be committed, for the
    /// projector.
    #[allow(
        clippy::result_large_err,
        reason = "what has to wait is moved into a queue, and seldom"
    )]
    pub(super) fn attempt(
        &mut self,
        entry: &mut Entry,
        held: QueuedRequest,
    ) -> Result<(), QueuedRequest> {
        if let Err(elsewhere) = entry.conversation.served_from(self.shard)
            && let Some(rid) = asks(&held.input.ask)
        {
            let id = entry.conversation.id();
            // On its way to this shard, or not known to have arrived in the other.
            if elsewhere.shard == self.shard || !self.moves.may_tell(&id, entry.away_before) {
                self.away.insert(id);
                return Err(held);
            }
            if !entry.is_certain() {
                self.reload(id);
                return Err(held);
            }
            held.input.from.moved(Some(rid), id, elsewhere);
            return Ok(());
        }
        let QueuedRequest { input: Input { from, ask }, lookup } = held;
        match ask {
            Ask::Command { rid, .. } | Ask::Recover { rid, .. }
                if matches!(lookup, Lookup::Failed) =>
            {
                from.reply(
                    rid,
                    Err(Refusal::new(ErrorCode::Internal, "what was sent before cannot be read")),
                );
            }
            ask @ (Ask::Command { .. } | Ask::Recover { .. }) => {
                let seen = match settled(entry, &ask, lookup) {
                    Ok(seen) => seen,
                    Err(lookup) => {
                        return Err(QueuedRequest { input: Input { from, ask }, lookup });
                    }
                };
                match ask {
                    Ask::Command { rid, actor, command, .. } => {
                        self.decide(entry, from, rid, &actor, command, seen.as_ref());
                    }
                    Ask::Recover { rid, stranded, first_seq } => {
                        self.recover(entry, from, rid, &stranded, seen.as_ref(), first_seq);
                    }
                    _ => {}
                }
            }
            // Who may read, and what is shown of who is in, must be committed.
            ask @ (Ask::Query { .. } | Ask::Watch { .. }) if entry.turns_uncommitted > 0 => {
                return Err(QueuedRequest { input: Input { from, ask }, lookup });
            }
            Ask::Query { rid, actor, conversation, query } => {
                self.query(entry, from, rid, actor, conversation, query);
            }
            Ask::Watch { rid, conversation, after_ver, users, after_epoch } => {
                // In the other class what an edge has was acknowledged, and never is lost.
                let epoch = after_epoch.filter(|_| self.shard.durability == Durability::Region);
                let after = after_ver.map(|ver| After { ver, epoch });
                self.watch(entry, from, rid, conversation, after, &users);
            }
            Ask::Unwatch { conversation } => self.feed.unwatch(&from, &conversation),
            Ask::Attach | Ask::Detach => {}
        }
        Ok(())
    }

    fn moment(&self) -> DecisionContext<'_> {
        DecisionContext {
            now_ms: self.now_ms,
            shard: self.shard,
            epoch: self.epoch,
            starts: &self.starts,
        }
    }

    fn decide(
        &mut self,
        entry: &mut Entry,
        to: Arc<Outbox>,
        rid: u64,
        actor: &Actor,
        command: Command,
        seen: Option<&Seen>,
    ) {
        let outcome = if matches!(command, Command::Mesh(MeshCommand::Move { .. }))
            && self.progress.status().forks > 0
        {
            // It would be looked for here.
            Err(Refusal::new(
                ErrorCode::BadRequest,
                "what a lost region still holds of its shard is brought back first; try again when that is done",
            ))
        } else {
            let decision = entry.conversation.decide(self.moment(), actor, command, seen);
            self.outcome(entry, decision)
        };
        // Also what changed nothing was decided on top of what is not acknowledged, and waits for that.
        self.pending.reply_after(entry.touched, PendingReply { to, rid, outcome });
    }

    /// Appends again what was stranded, unless it is here.
    fn recover(
        &mut self,
        entry: &mut Entry,
        to: Arc<Outbox>,
        rid: u64,
        stranded: &Change,
        seen: Option<&Seen>,
        first_seq: u64,
    ) {
        if let Some(change) = entry.conversation.recover(self.moment(), stranded, seen, first_seq) {
            metrics::counter!("hearth_changes_recovered_total").increment(1);
            self.apply(entry, vec![flagged(change)]);
        }
        // Also what is here already may not be acknowledged yet.
        self.pending
            .reply_after(entry.touched, PendingReply { to, rid, outcome: Ok(Answer::Noted) });
    }

    fn outcome(&mut self, entry: &mut Entry, decision: Decision) -> Outcome {
        match decision {
            Decision::Commit(changes) => Ok(self.apply(entry, changes)),
            Decision::Already(decided) => Ok(entry.conversation.answer(decided, self.region)),
            Decision::Refuse(refusal) => Err(refusal),
            // Both are seen to before anything is decided.
            Decision::Moved(_) | Decision::NeedsReload => Err(not_yet()),
        }
    }

    /// An offer: answered if the conversation is known to be here; else it is read, for nothing in memory says for certain
    /// that it is not.
    pub(super) fn offered(&mut self, entry: Option<&Entry>, offered: Offered) {
        let Some(offered) = self.answer_if_here(entry, offered) else { return };
        let id = offered.offer.conversation;
        self.read_conversation(id, |loaded| Fetched::Offered { offered, loaded });
    }

    /// Gives an offer back unless the conversation is known to be here.
    fn answer_if_here(&mut self, entry: Option<&Entry>, offered: Offered) -> Option<Offered> {
        let Some(entry) = entry else { return Some(offered) };
        let Offer { n, ver, from, .. } = offered.offer;
        let command = MeshCommand::AcceptTransfer { n, ver, from };
        let Decision::Already(decided) =
            entry.conversation.decide(self.moment(), &system_actor(), command, None)
        else {
            return Some(offered);
        };
        let outcome = Ok(self.taken_in(
            entry,
            offered.offer,
            entry.conversation.answer(decided, self.region),
        ));
        self.pending
            .reply_after(entry.touched, PendingReply { to: offered.to, rid: offered.rid, outcome });
        None
    }

    /// The answer to an offer of what is here: whether it is everywhere already, if that does not come with the acknowledgement.
    fn taken_in(&mut self, entry: &Entry, offer: Offer, answer: Answer) -> Answer {
        let Answer::TransferAccepted { everywhere: false } = answer else { return answer };
        let key = (offer.conversation, offer.n);
        // Asked again, it has not become more, whatever was said since.
        let arrived = entry.touched.map_or(entry.away_before, Slot::next);
        let before = *self.awaiting_replication.entry(key).or_insert(arrived);
        let everywhere = self.watermark.wait_for(before);
        if everywhere || self.awaiting_replication.len() > AWAITED_MAX {
            self.awaiting_replication.remove(&key);
        }
        Answer::TransferAccepted { everywhere }
    }

    /// In a while.
    fn reload(&mut self, id: ConversationId) {
        if self.unconfirmed.insert(id) {
            let read = self.reading(id, RELOAD_INTERVAL);
            self.fetches.push(Box::pin(async move { Fetched::Again { id, loaded: read.await } }));
        }
    }

    /// Takes in what was offered and read, unless it is here by now. `entry`: what was in memory of it, which is replaced.
    pub(super) fn take_in(
        &mut self,
        entry: &mut Option<Entry>,
        offered: Offered,
        loaded: Conversation,
    ) {
        let Some(Offered { offer, to, rid }) = self.answer_if_here(entry.as_ref(), offered) else {
            return;
        };
        if entry.as_ref().is_some_and(|entry| !entry.is_settled()) || self.pending.is_backed_up() {
            return to.reply(rid, Err(not_yet()));
        }
        let decision = loaded.admit(self.moment(), offer);
        let entry = entry.insert(Entry::new(loaded, self.pending.committed()));
        let outcome =
            self.outcome(entry, decision).map(|answer| self.taken_in(entry, offer, answer));
        self.pending.reply_after(entry.touched, PendingReply { to, rid, outcome });
    }

    /// What somebody waited for may be known now: tells those who watch, and returns whose requests are to be looked at.
    pub(super) fn look_for_moved(&mut self) -> BTreeSet<ConversationId> {
        let (moves, feed) = (&self.moves, &mut self.feed);
        self.departing.retain(|id, (placement, before)| {
            let waits = !moves.may_tell(id, *before);
            if !waits {
                feed.moved(*id, *placement);
            }
            waits
        });
        std::mem::take(&mut self.away)
    }

    /// Puts the changes into the open frame and returns the answer.
    fn apply(&mut self, entry: &mut Entry, changes: Vec<Change>) -> Answer {
        let slot = self.pending.make_room(&changes);
        let decided = changes.last().map_or(Decided::Noted, Decided::of);
        let at = Position { epoch: self.epoch, slot };
        for change in changes {
            entry
                .conversation
                .apply(&change, at)
                .expect("a change follows on the state it was decided on");
            entry.note_applied(&change, slot);
            let view =
                shows_view(&change).then(|| Box::new(entry.conversation.view(self.region, None)));
            self.pending.push(change, view);
        }
        entry.conversation.answer(decided, self.region)
    }

    fn query(
        &mut self,
        entry: &Entry,
        to: Arc<Outbox>,
        rid: u64,
        actor: Option<Actor>,
        conversation: ConversationId,
        query: Query,
    ) {
        if let Err(refusal) = readable(&entry.conversation, actor.as_ref()) {
            return to.reply(rid, Err(refusal));
        }
        let (head_seq, head_ver) = (entry.committed_seq, entry.committed_ver);
        let read = match query {
            Query::View { members_after } => {
                let view = Box::new(self.view(entry, members_after.as_ref()));
                return to.reply(rid, Ok(Answer::View { view, created: false }));
            }
            Query::History { before, after, limit } => {
                Read::History { conversation, before, after, limit, head_seq, head_ver }
            }
            Query::Changes { after_ver, limit } => {
                let view = self.view_after(entry, after_ver);
                Read::Changes { conversation, after_ver, limit, head_ver, view }
            }
            Query::Inbox { after, limit } => {
                let Some(actor) = actor else {
                    let refusal =
                        Refusal::new(ErrorCode::BadRequest, "an inbox is read by its user only");
                    return to.reply(rid, Err(refusal));
                };
                let page = if limit == 0 { LINES_MAX } else { usize::from(limit).min(LINES_MAX) };
                let (lines, more) = entry.conversation.inbox(after.as_ref(), page);
                let next = lines.last().filter(|_| more).map(|line| line.conversation);
                if limit == 0 {
                    return to.reply(rid, Ok(Answer::Inbox { lines, next, head_ver }));
                }
                Read::Heads { user: actor.user, lines, next, head_ver }
            }
            // The gate has refused it already.
            Query::Unknown(_) => {
                let message = "this node does not know queries of this kind";
                return to.reply(rid, Err(Refusal::new(ErrorCode::UnknownType, message)));
            }
        };
        if let Some(fetch) = self.reads.fetch(to, rid, read, self.pending.committed()) {
            self.tasks.spawn("read", fetch);
        }
    }

    fn watch(
        &mut self,
        entry: &Entry,
        to: Arc<Outbox>,
        rid: u64,
        conversation: ConversationId,
        after: Option<After>,
        users: &[UserId],
    ) {
        let members = entry.conversation.members();
        let members = users.iter().filter(|user| members.contains_key(*user)).cloned().collect();
        let (head_seq, head_ver) = (entry.committed_seq, entry.committed_ver);
        // Before the first delivery, so that the edge knows where it starts.
        let head_epoch = Some(entry.committed_epoch);
        to.reply(rid, Ok(Answer::Watching { head_ver, head_seq, members, head_epoch }));
        match after {
            None if self.feed.is_watching(&to, &conversation) => {}
            Some(after) if after.ver < head_ver || after.may_be_lost(entry.committed_epoch) => {
                let Some(generation) = self.feed.watch(&to, conversation, head_ver, true) else {
                    return;
                };
                // How far back it goes is not known before it is read.
                let shown_after =
                    if after.may_be_lost(entry.committed_epoch) { 0 } else { after.ver };
                let view = self.view_after(entry, shown_after);
                self.replay(replay::Replay {
                    to,
                    conversation,
                    generation,
                    after,
                    up_to_ver: head_ver,
                    view,
                });
            }
            _ => {
                self.feed.watch(&to, conversation, head_ver, false);
            }
        }
    }

    fn replay(&self, past: replay::Replay) {
        let (store, reading) = (self.store.clone(), self.reads.reading.clone());
        let replay = replay::run(
            store,
            reading,
            self.reads.projected.clone(),
            self.pending.committed(),
            past,
        );
        let replays = self.replays.clone();
        self.tasks.spawn("replay", async move {
            // Gone only with the term.
            let _ = replays.send(replay.await).await;
        });
    }

    /// The view with committed heads. Members are settled when this is called.
    fn view(&self, entry: &Entry, members_after: Option<&UserId>) -> View {
        let (head_seq, head_ver) = (entry.committed_seq, entry.committed_ver);
        View { head_seq, head_ver, ..entry.conversation.view(self.region, members_after) }
    }

    /// The view, if there may be a change of members after this `ver`.
    fn view_after(&self, entry: &Entry, after_ver: u64) -> Option<Box<View>> {
        let shown = entry.last_turn_ver > after_ver
            && entry.conversation.id().kind != ConversationKind::User;
        shown.then(|| Box::new(self.view(entry, None)))
    }

    /// Reads a conversation from the projections.
    pub(super) fn load(&self, id: ConversationId) {
        self.read_conversation(id, move |loaded| Fetched::Conversation { id, loaded });
    }

    fn read_conversation(
        &self,
        id: ConversationId,
        fetched: impl FnOnce(Loaded) -> Fetched + Send + 'static,
    ) {
        let read = self.reading(id, Duration::ZERO);
        self.fetches.push(Box::pin(async move { fetched(read.await) }));
    }

    fn reading(
        &self,
        id: ConversationId,
        after: Duration,
    ) -> impl Future<Output = Loaded> + Send + use<> {
        let (store, loading) = (self.store.clone(), self.loading.clone());
        let (shard, starts) = (self.shard, self.starts.clone());
        async move {
            if !after.is_zero() {
                tokio::time::sleep(after).await;
            }
            // Never closed.
            let _permit = loading.acquire().await;
            read(&store, id, shard, starts).await.map(Box::new)
        }
    }

    /// Asks the store about the send with this ticket, if its turn will need it and the answer will hold.
    pub(super) fn look_up(&mut self, id: ConversationId, place: &mut CacheSlot, ticket: u64) {
        let Some(entry) = &place.entry else { return };
        let (projected, ripe) = (entry.projected, entry.covers_since(entry.projected));
        // The first of a queue is always asked for: nothing else would bring it forward.
        let asks = ticket == place.head_ticket || self.lookups < LOOKUPS_AT_ONCE;
        let index = usize::try_from(ticket - place.head_ticket).unwrap_or(usize::MAX);
        let Some(held) = place.waiting.get_mut(index) else { return };
        if !ripe || !asks || !matches!(held.lookup, Lookup::Unasked) {
            return;
        }
        let Some((sender, client_msg_id)) = in_doubt(entry, &held.input.ask) else { return };
        let (sender, client_msg_id) = (sender.clone(), client_msg_id.clone());
        held.lookup = Lookup::Asked;
        self.lookups += 1;
        self.fetches.push(lookup(self.store.clone(), id, ticket, projected, sender, client_msg_id));
    }
}

/// Believes nothing that was lost with a region. `starts`: of `here`, the shard that reads it.
async fn read(
    store: &Arc<dyn Store>,
    id: ConversationId,
    here: ShardId,
    starts: Starts,
) -> Result<Conversation, StoreError> {
    let Some(rows) = retry_forever(|| store.conversation(id)).await? else {
        return Ok(Conversation::empty(id));
    };
    let location = rows.location(id);
    let judge = location.judge();
    // Of one that is elsewhere only that is asked.
    if id.shard.durability == Durability::MultiRegion || (location.arrived && judge != here) {
        return Ok(Conversation::load(id, rows));
    }
    let mut known = BTreeMap::from([(here, starts)]);
    know(store, &mut known, judge).await?;
    if known.get(&judge).is_some_and(|starts| rows.counts(id, starts)) {
        return Ok(Conversation::load(id, rows));
    }
    metrics::counter!("hearth_conversations_replayed_total").increment(1);
    let mut conversation = Conversation::empty(id);
    loop {
        let after = conversation.head_ver();
        let changes = retry_forever(|| store.placed_changes(id, after, CHANGES_AT_ONCE)).await?;
        match conversation.replay(&changes, &known) {
            Replayed::Needs(shard) => know(store, &mut known, shard).await?,
            Replayed::All if changes.len() == CHANGES_AT_ONCE => {}
            Replayed::All | Replayed::Cut => {
                tracing::debug!(conversation = %id, head = conversation.head_ver(), "replayed: not all of its rows count");
                return Ok(conversation);
            }
        }
    }
}

async fn know(
    store: &Arc<dyn Store>,
    known: &mut BTreeMap<ShardId, Starts>,
    shard: ShardId,
) -> Result<(), StoreError> {
    if let btree_map::Entry::Vacant(place) = known.entry(shard) {
        place.insert(retry_forever(|| store.lease(shard)).await?.starts);
    }
    Ok(())
}

fn lookup(
    store: Arc<dyn Store>,
    id: ConversationId,
    ticket: u64,
    projected_then: u64,
    sender: UserId,
    client_msg_id: ClientMsgId,
) -> Fetch {
    Box::pin(async move {
        let seen = retry_forever(|| store.dedupe(id, &sender, &client_msg_id)).await;
        Fetched::Lookup { id, ticket, projected_then, seen }
    })
}

/// What the store remembers of a send, if it was asked and its answer still holds; nothing when it need not be asked.
fn settled(entry: &Entry, ask: &Ask, lookup: Lookup) -> Result<Option<Seen>, Lookup> {
    if in_doubt(entry, ask).is_none() {
        return Ok(None);
    }
    match lookup {
        Lookup::Known { seen, projected_then } if entry.covers_since(projected_then) => Ok(seen),
        Lookup::Known { .. } | Lookup::Unasked => Err(Lookup::Unasked),
        waits @ (Lookup::Asked | Lookup::Failed) => Err(waits),
    }
}

/// The send of which only the store can say what it became, if the request is about one.
fn in_doubt<'a>(entry: &Entry, ask: &'a Ask) -> Option<(&'a UserId, &'a ClientMsgId)> {
    match ask {
        Ask::Command {
            actor, command: command @ Command::User(UserCommand::Send(draft)), ..
        } => entry
            .conversation
            .needs_dedupe_lookup(actor, command)
            .then_some((&actor.user, &draft.client_msg_id)),
        Ask::Recover { stranded, .. } => match &stranded.event {
            Event::Message(message) => entry
                .conversation
                .needs_dedupe_lookup_to_recover(stranded)
                .then_some((&message.sender, &message.client_msg_id)),
            _ => None,
        },
        _ => None,
    }
}

fn readable(conversation: &Conversation, actor: Option<&Actor>) -> Result<(), Refusal> {
    match actor {
        Some(actor) => conversation.readable_by(&actor.tenant, &actor.user),
        None if conversation.facts().is_none()
            && conversation.id().kind != ConversationKind::User =>
        {
            Err(Refusal::new(ErrorCode::NotFound, "no such conversation"))
        }
        None => Ok(()),
    }
}

/// The number of a request that is answered from what the conversation is.
pub(super) fn asks(ask: &Ask) -> Option<u64> {
    match ask {
        Ask::Command { rid, .. }
        | Ask::Recover { rid, .. }
        | Ask::Query { rid, .. }
        | Ask::Watch { rid, .. } => Some(*rid),
        Ask::Attach | Ask::Detach | Ask::Unwatch { .. } => None,
    }
}

fn not_yet() -> Refusal {
    Refusal::new(ErrorCode::HomeUnavailable, "it cannot be taken in yet")
}

/// As it is, but in the simulator's test of its own checker: elsewhere a fail point is nothing.
fn flagged(change: Change) -> Change {
    fail::fail_point!("salvage-unflagged", |_| {
        let mut change = change.clone();
        if let Event::Message(message) = &mut change.event {
            message.recovered = false;
        }
        change
    });
    change
}

fn shows_view(change: &Change) -> bool {
    matches!(change.event, Event::Created(_) | Event::MembersChanged(_) | Event::MovedIn(_))
        && change.conversation.kind != ConversationKind::User
}
