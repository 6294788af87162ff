//! What there is: three shards, whoever owns each of them, what readers can read, and an edge.

use std::hash::{Hash, Hasher};
use std::rc::Rc;

use hearth_conversation::edge_cursor::EdgeCursor;
use hearth_conversation::moving::{DecisionContext, Location, Mover, Offer};
use hearth_conversation::sequencer::{Conversation, Decision, Outcome};
use hearth_conversation::shard::Starts;
use wire::change::{Change, Created, Event, Home, Role};
use wire::command::{Actor, Command, Draft, UserCommand};
use wire::{
    ClientMsgId, ConversationId, ConversationKind, Durability, Epoch, Position, RegionId, ShardId,
    Slot, TenantId, UserId, ZoneId,
};

use super::table::{Frame, Table};

pub(super) const SHARDS: usize = 3;
/// Their first epochs and their owners' clocks: a move goes up and down in both.
const EPOCHS: [u64; SHARDS] = [5, 1, 3];
const CLOCKS_MS: [u64; SHARDS] = [1_000, 900, 1_100];

#[derive(Clone, Debug, Hash)]
pub(crate) struct State {
    pub(super) shards: [Shard; SHARDS],
    /// The changes that are committed, in all shards; no fork has cut them.
    pub(super) history: Vec<Rc<Frame>>,
    /// Those that a fork has cut off.
    pub(super) lost: Vec<Rc<Frame>>,
    /// The seq that each message was acknowledged with, unless a fork has cut it off.
    pub(super) acked: Vec<Option<u64>>,
    /// Offers on their way, for ever: each may arrive late, and again.
    pub(super) offers: Vec<Offer>,
    pub(super) edge: Edge,
    pub(super) moves: u8,
    pub(super) crashes: u8,
    pub(super) forks: u8,
}

#[derive(Clone, Debug, Hash)]
pub(super) struct Shard {
    pub(super) epoch: Epoch,
    pub(super) starts: Starts,
    pub(super) log: Vec<Rc<Frame>>,
    /// Frames of the log that are committed, projected, in every region.
    pub(super) committed: usize,
    pub(super) projected: usize,
    pub(super) everywhere: usize,
    /// First slot of the term.
    pub(super) start: Slot,
    /// What the owner knows of the conversation, if it has been asked.
    pub(super) memory: Option<Rc<Memory>>,
    pub(super) mover: Mover,
    /// What the owner reads.
    pub(super) view: Rc<Table>,
}

/// A conversation in an owner's memory. Two that decide the same are the same.
#[derive(Clone, Debug)]
pub(super) struct Memory {
    pub(super) conversation: Conversation,
    /// What took it away, if it is away, stands before this slot.
    pub(super) away_before: Slot,
    digest: Digest,
}

/// Heads, epoch and time, where it is, and of each message whether it must be looked up and what it
/// became.
type Digest = (u64, u64, Epoch, u64, Location, Vec<(bool, Option<u64>)>);

impl Hash for Memory {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.away_before, &self.digest).hash(state);
    }
}

#[derive(Clone, Debug, Hash)]
pub(super) struct Edge {
    /// The latest it has heard of.
    pub(super) placement: Option<Home>,
    /// Shards that it has ever asked, as bits: what it sent there may arrive at any time.
    pub(super) asked: u8,
    pub(super) cursor: EdgeCursor<u64>,
    /// The last `ver` that a client was shown.
    pub(super) shown: u64,
}

pub(super) fn shard_id(n: usize, durability: Durability) -> ShardId {
    ShardId { zone: ZoneId(1), home: RegionId(1 + n as u16), durability, n: n as u16 }
}

pub(super) fn index(shard: ShardId) -> usize {
    usize::from(shard.n)
}

pub(super) fn id(durability: Durability) -> ConversationId {
    ConversationId {
        kind: ConversationKind::Group,
        shard: shard_id(0, durability),
        unique: [7; 16],
    }
}

pub(super) fn ann() -> Actor {
    Actor {
        tenant: TenantId::new("demo").unwrap(),
        user: UserId::new("ann").unwrap(),
        device: None,
    }
}

pub(super) fn name(message: usize) -> ClientMsgId {
    ClientMsgId::new(format!("m{message}")).unwrap()
}

pub(super) fn send(message: usize) -> Command {
    Command::User(UserCommand::Send(Draft::text(name(message), "x")))
}

impl State {
    /// Everything is in the first shard, in which a group of one is created.
    pub(super) fn new(
        durability: Durability,
        messages: usize,
        (moves, crashes, forks): (u8, u8, u8),
    ) -> Self {
        let created = Created {
            tenant: ann().tenant,
            name: Some("tea".into()),
            by: ann().user,
            members: vec![(ann().user, Role::Owner)],
        };
        let epoch = Epoch(EPOCHS[0]);
        let change = Change {
            conversation: id(durability),
            ver: 1,
            epoch,
            ts_ms: CLOCKS_MS[0],
            event: Event::Created(created),
        };
        let log = hearth_conversation::log::LogFrame {
            epoch,
            slot: Slot(0),
            ts_ms: CLOCKS_MS[0],
            changes: vec![change.into()],
        };
        let first = Frame::new(log, false);
        let view = Rc::new(Table::of([&first]));
        let shards = std::array::from_fn(|n| {
            let log: Vec<_> = if n == 0 { vec![first.clone()] } else { vec![] };
            let mut mover = Mover::new(shard_id(n, durability), None);
            log.iter().for_each(|frame| mover.take(&frame.log));
            let starts = [(Epoch(EPOCHS[n]), Slot(0))].into_iter().collect();
            let (epoch, all) = (Epoch(EPOCHS[n]), log.len());
            let view = view.clone();
            Shard {
                epoch,
                starts,
                log,
                committed: all,
                projected: all,
                everywhere: all,
                start: Slot(0),
                memory: None,
                mover,
                view,
            }
        });
        Self {
            shards,
            history: vec![first],
            lost: vec![],
            acked: vec![None; messages],
            offers: vec![],
            edge: Edge { placement: None, asked: 1, cursor: EdgeCursor::after(1, None), shown: 1 },
            moves,
            crashes,
            forks,
        }
    }

    pub(super) fn head(&self) -> &Change {
        self.history.last().expect("it was created").change()
    }
}

impl Shard {
    pub(super) fn moment(&self, n: usize, durability: Durability) -> DecisionContext<'_> {
        DecisionContext {
            now_ms: CLOCKS_MS[n],
            shard: shard_id(n, durability),
            epoch: self.epoch,
            starts: &self.starts,
        }
    }

    pub(super) fn all_committed(&self) -> bool {
        self.committed == self.log.len()
    }

    /// The place of the next frame.
    pub(super) fn next(&self) -> Position {
        Position { epoch: self.epoch, slot: Slot(self.log.len() as u64) }
    }
}

impl Memory {
    pub(super) fn new(
        conversation: Conversation,
        away_before: Slot,
        moment: DecisionContext<'_>,
        messages: usize,
    ) -> Rc<Self> {
        let known = |message: usize| {
            let unknown = conversation.needs_dedupe_lookup(&ann(), &send(message));
            match conversation.decide(moment, &ann(), send(message), None) {
                Decision::Already(Outcome::Ack(ack)) => (unknown, Some(ack.seq)),
                _ => (unknown, None),
            }
        };
        // One that is away decides nothing, and is read anew before it does.
        let here = conversation.served_from(moment.shard).is_ok();
        let sends = if here { (0..messages).map(known).collect() } else { vec![] };
        let digest = (
            conversation.head_ver(),
            conversation.head_seq(),
            conversation.last_epoch(),
            conversation.last_ts_ms(),
            conversation.location().clone(),
            sends,
        );
        Rc::new(Self { conversation, away_before, digest })
    }
}
