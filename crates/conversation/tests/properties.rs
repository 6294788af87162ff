//! What holds for every history of commands: random ones are run as an owner runs them, and then
//! looked at from the log.

#![allow(clippy::unwrap_used)]

use std::collections::{HashMap, HashSet};

use hearth_conversation::log::{FRAME_OVERHEAD_BYTES, LogFrame, change_bytes};
use hearth_conversation::moving::{DecisionContext, Offer};
use hearth_conversation::projection::{
    ClusteringKey, DedupeRow, Kind, MessageRow, Partition, RowId, StampedRow, project, project_all,
};
use hearth_conversation::sequencer::{Conversation, Decision, LoadedConversation};
use hearth_conversation::shard::Starts;
use proptest::prelude::*;
use wire::change::{Change, Event, Role};
use wire::command::{Actor, Command, Draft, MeshCommand, UserCommand};
use wire::{
    ClientMsgId, ConversationId, ConversationKind, Durability, Epoch, RegionId, ShardId, Slot,
    TenantId, UserId, ZoneId,
};

/// All are born in the first.
fn shard(n: u16) -> ShardId {
    ShardId { zone: ZoneId(1), home: RegionId(1 + n), durability: Durability::MultiRegion, n }
}

fn conversation(kind: ConversationKind) -> ConversationId {
    let shard = shard(0);
    let unique = match kind {
        ConversationKind::User => ConversationId::user_key(&tenant(), &user(0)),
        _ => [7; 16],
    };
    ConversationId { kind, shard, unique }
}

fn tenant() -> TenantId {
    TenantId::new("demo").unwrap()
}

fn user(n: u8) -> UserId {
    UserId::new(format!("user-{n}")).unwrap()
}

fn users() -> impl Strategy<Value = Vec<UserId>> {
    proptest::collection::vec((0..5u8).prop_map(user), 0..3)
}

fn role() -> impl Strategy<Value = Role> {
    prop_oneof![Just(Role::Member), Just(Role::Admin), Just(Role::Owner)]
}

fn draft() -> impl Strategy<Value = Draft> {
    let extras = (
        proptest::option::of(0..6u64),
        proptest::option::of(0..6u64),
        users(),
        proptest::option::of(".{0,8}"),
    );
    (0..12u8, 0..2u8, extras).prop_map(|(name, body, (reply_to, thread, mentions, meta))| Draft {
        client_msg_id: ClientMsgId::new(format!("m{name}")).unwrap(),
        body: format!("body {body}").into(),
        reply_to,
        thread,
        mentions,
        meta,
        later: Default::default(),
    })
}

/// A command to the group, or (the notes) to the stream of user 0.
fn command() -> impl Strategy<Value = (u8, Command)> {
    let change =
        (users(), users(), proptest::collection::vec(((0..5u8).prop_map(user), role()), 0..2));
    let about = |n: u8| ConversationId { unique: [n; 16], ..conversation(ConversationKind::Group) };
    let command = prop_oneof![
        6 => draft().prop_map(|draft| UserCommand::Send(draft).into()),
        2 => change.prop_map(|(add, remove, roles)| UserCommand::ChangeMembers { add, remove, roles }.into()),
        1 => users().prop_map(|members| UserCommand::CreateGroup { name: "tea".into(), members }.into()),
        1 => (0..3u8, 1..9u64).prop_map(move |(n, at_ver)| MeshCommand::NoteJoined {
            conversation: about(n), name: None, joined_seq: at_ver, at_ver,
        }.into()),
        1 => (0..2u16).prop_map(|n| MeshCommand::Move { to: shard(n) }.into()),
        1 => (0..3u8, 1..9u64).prop_map(move |(n, at_ver)| MeshCommand::NoteLeft { conversation: about(n), at_ver }.into()),
    ];
    (0..4u8, command)
}

/// Both conversations after a history, and its log: frames of up to three commands each, with a
/// takeover now and then. The group moves between two shards, of which one is far ahead in epochs
/// and the other in slots and in time.
struct Run {
    states: [Conversation; 2],
    frames: Vec<LogFrame>,
}

fn moment(shard: ShardId, n: u64, starts: &Starts) -> DecisionContext<'_> {
    let epoch = Epoch(if shard.n == 0 { 40 } else { 1 } + n / 7);
    DecisionContext { now_ms: if shard.n == 0 { 1_000 } else { 900 } + n, shard, epoch, starts }
}

fn run(commands: Vec<(u8, Command)>) -> Run {
    let create =
        UserCommand::CreateGroup { name: "tea".into(), members: vec![user(1), user(2)] }.into();
    let commands = std::iter::once((0, create)).chain(commands);
    let kinds = [ConversationKind::Group, ConversationKind::User];
    let mut run = Run {
        states: kinds.map(|kind| Conversation::empty(conversation(kind))),
        frames: Vec::new(),
    };
    let starts = Starts::default();
    for (n, (by, command)) in commands.enumerate() {
        let index = usize::from(matches!(
            command,
            Command::Mesh(MeshCommand::NoteJoined { .. } | MeshCommand::NoteLeft { .. })
        ));
        let moment = moment(run.states[index].location().placement.shard, n as u64, &starts);
        let actor = Actor { tenant: tenant(), user: user(by), device: None };
        let Decision::Commit(changes) = run.states[index].decide(moment, &actor, command, None)
        else {
            continue;
        };
        run.commit(index, moment, changes);
        run.take_in(n as u64);
    }
    run
}

impl Run {
    fn commit(&mut self, index: usize, moment: DecisionContext<'_>, changes: Vec<Change>) {
        // Slots tell the shards apart, and so tell whether the last frame can take more.
        let base = if moment.shard.n == 0 { 0 } else { 500 };
        let fits = |frame: &&mut LogFrame| {
            frame.epoch == moment.epoch
                && (frame.slot.0 >= 500) == (base == 500)
                && frame.changes.len() < 3
        };
        let slot = Slot(base + self.frames.len() as u64);
        let frame = match self.frames.last_mut().filter(fits) {
            Some(frame) => frame,
            None => {
                self.frames.push(LogFrame {
                    epoch: moment.epoch,
                    slot,
                    ts_ms: moment.now_ms,
                    changes: vec![],
                });
                self.frames.last_mut().unwrap()
            }
        };
        for change in changes {
            self.states[index].apply(&change, frame.at()).unwrap();
            frame.changes.push(change.into());
        }
    }

    /// What has left one shard arrives in the other, where it is made from its projections.
    fn take_in(&mut self, n: u64) {
        let group = &self.states[0];
        let location = group.location();
        if location.arrived {
            return;
        }
        let mut table = Table::default();
        self.frames.iter().for_each(|frame| table.project(frame));
        let loaded = Conversation::load(group.id(), table.load(group.id()));
        let to = location.placement;
        let (from, ver) = (shard(1 - to.shard.n), group.head_ver());
        let offer = Offer { conversation: group.id(), n: to.generation, ver, from, to: to.shard };
        let starts = Starts::default();
        let moment = moment(to.shard, n, &starts);
        let Decision::Commit(changes) = loaded.admit(moment, offer) else { panic!("not admitted") };
        self.commit(0, moment, changes);
    }
}

fn replay(state: &mut Conversation, frames: &[LogFrame]) {
    let id = state.id();
    for frame in frames {
        for change in frame.changes.iter().filter(|change| change.conversation == id) {
            state.apply(change, frame.at()).unwrap();
        }
    }
}

/// What two states that are the same show. (Memory of sends is compared by asking.)
fn shown(state: &Conversation) -> impl PartialEq + std::fmt::Debug {
    let view = state.view(RegionId(1), None);
    (
        view,
        state.facts().cloned(),
        state.joins().clone(),
        state.last_ts_ms(),
        state.location().clone(),
    )
}

/// Last write wins for each row, by stamp.
#[derive(Default, Clone, PartialEq, Debug)]
struct Table(HashMap<RowId, StampedRow>);

impl Table {
    fn write(&mut self, row: StampedRow) {
        let newer = self.0.get(&row.id).is_none_or(|there| there.stamp <= row.stamp);
        if newer {
            self.0.insert(row.id.clone(), row);
        }
    }

    fn project(&mut self, frame: &LogFrame) {
        project(frame).into_iter().for_each(|row| self.write(row));
    }

    fn load(&self, id: ConversationId) -> LoadedConversation {
        let mut loaded = LoadedConversation::default();
        for row in self.0.values().filter(|row| row.id.partition.conversation() == id) {
            loaded.add(row.id.kind, &row.value).unwrap();
        }
        loaded
    }
}

fn history() -> impl Strategy<Value = Vec<(u8, Command)>> {
    proptest::collection::vec(command(), 0..60)
}

/// A message of this epoch and slot, by a clock that says what it likes.
fn message(epoch: u64, slot: u64, ts_ms: u64, seq: u64, body: &str) -> LogFrame {
    let event = Event::Message(wire::change::Message {
        seq,
        sender: user(1),
        device: None,
        draft: Draft::text(ClientMsgId::new("m").unwrap(), body),
        recovered: false,
        later: Default::default(),
    });
    let conversation = conversation(ConversationKind::Group);
    let change = Change { conversation, ver: seq + 1, epoch: Epoch(epoch), ts_ms, event };
    LogFrame { epoch: Epoch(epoch), slot: Slot(slot), ts_ms, changes: vec![change.into()] }
}

/// A zombie gathered frames, and projects them after the next term has projected its own.
#[test]
fn a_late_batch_of_a_lost_term_wins_nowhere() {
    let lost = [message(1, 8, 8_000, 4, "lost"), message(1, 9, 9_000, 5, "lost")];
    let kept = [message(2, 3, 900, 4, "kept"), message(2, 4, 1_000, 5, "kept")];
    let mut kept_alone = Table::default();
    kept.iter().for_each(|frame| kept_alone.project(frame));
    let mut table = Table::default();
    let batches = [project_all(&kept), project_all(&lost)];
    batches.into_iter().flatten().for_each(|row| table.write(row));
    assert_eq!(table, kept_alone);
}

#[test]
fn a_late_projection_of_a_lost_term_never_wins() {
    // Epoch 1 wrote slot 9 and lost it to a fork; epoch 2 started at slot 4. The clock of the lost
    // one was ahead.
    let (lost, kept) = (message(1, 9, 9_000, 5, "lost"), message(2, 4, 1_000, 5, "kept"));
    for order in [[&lost, &kept], [&kept, &lost]] {
        let mut table = Table::default();
        order.into_iter().for_each(|frame| table.project(frame));
        let mut kept_alone = Table::default();
        kept_alone.project(&kept);
        assert_eq!(table, kept_alone);
    }
}

proptest! {
    #[test]
    fn numbers_are_dense_and_no_send_counts_twice(commands in history()) {
        let run = run(commands);
        let mut sends = HashMap::new();
        for state in &run.states {
            let changes = run.frames.iter().flat_map(|f| &f.changes).filter(|c| c.conversation == state.id());
            let (mut ver, mut seq, mut epoch) = (0, 0, Epoch(0));
            for change in changes {
                ver += 1;
                prop_assert_eq!(change.ver, ver);
                prop_assert!(change.epoch >= epoch);
                epoch = change.epoch;
                prop_assert_eq!(ver == 1, matches!(change.event, Event::Created(_)));
                if let Event::Message(message) = &change.event {
                    seq += 1;
                    prop_assert_eq!(message.seq, seq);
                    let name = (message.sender.clone(), message.draft.client_msg_id.clone());
                    prop_assert_eq!(sends.insert(name, seq), None);
                }
            }
            prop_assert_eq!((state.head_ver(), state.head_seq()), (ver, seq));
        }
        let members = run.states[0].members();
        prop_assert!(members.is_empty() || members.values().any(|member| member.role == Role::Owner));
    }

    #[test]
    fn a_replay_from_any_prefix_ends_in_the_same_state(commands in history(), cut in 0..60usize, overlap in 0..4usize) {
        let run = run(commands);
        let cut = cut.min(run.frames.len());
        for state in &run.states {
            let mut replayed = Conversation::empty(state.id());
            replay(&mut replayed, &run.frames[..cut]);
            // Replayed again, and on: what it has it passes over.
            replay(&mut replayed, &run.frames[cut.saturating_sub(overlap)..]);
            prop_assert_eq!(shown(&replayed), shown(state));
        }
    }

    #[test]
    fn a_takeover_at_any_point_ends_in_the_same_state(commands in history(), cut in 0..60usize) {
        let run = run(commands);
        let cut = cut.min(run.frames.len());
        let mut table = Table::default();
        run.frames[..cut].iter().for_each(|frame| table.project(frame));
        for state in &run.states {
            let mut loaded = Conversation::load(state.id(), table.load(state.id()));
            replay(&mut loaded, &run.frames[cut..]);
            prop_assert_eq!(shown(&loaded), shown(state));
        }
    }

    #[test]
    fn a_projection_is_the_same_in_whatever_order_and_however_often(
        commands in history(),
        picks in proptest::collection::vec(any::<proptest::sample::Index>(), 0..40),
    ) {
        let run = run(commands);
        let mut once = Table::default();
        run.frames.iter().for_each(|frame| once.project(frame));
        let mut again = Table::default();
        for pick in &picks {
            again.project(pick.get(&run.frames));
        }
        run.frames.iter().rev().for_each(|frame| again.project(frame));
        prop_assert_eq!(&once, &again);
        for frame in &run.frames {
            prop_assert_eq!(project(frame), project(frame));
        }
    }

    #[test]
    fn frames_projected_together_mean_the_same_and_write_no_row_twice(
        commands in history(),
        sizes in proptest::collection::vec(1..9usize, 1..20),
    ) {
        let run = run(commands);
        let (mut alone, mut together) = (Table::default(), Table::default());
        run.frames.iter().for_each(|frame| alone.project(frame));
        let (mut left, mut batches) = (&run.frames[..], Vec::new());
        for size in sizes.iter().cycle() {
            if left.is_empty() {
                break;
            }
            let (batch, rest) = left.split_at(left.len().min(*size));
            batches.push(project_all(batch));
            left = rest;
        }
        // Batches overlap: the newest may be written first.
        for rows in batches.into_iter().rev() {
            let rewritten = rows.iter().filter(|row| !row.id.kind.is_write_once());
            let ids: HashSet<_> = rewritten.clone().map(|row| row.id.clone()).collect();
            prop_assert_eq!(ids.len(), rewritten.count());
            rows.into_iter().for_each(|row| together.write(row));
        }
        prop_assert_eq!(alone, together);
    }

    #[test]
    fn rows_of_one_frame_never_share_a_key(commands in history()) {
        for frame in run(commands).frames {
            let rows = project(&frame);
            let count = rows.len();
            let mut table = Table::default();
            rows.into_iter().for_each(|row| table.write(row));
            prop_assert_eq!(table.0.len(), count);
        }
    }

    #[test]
    fn every_retry_finds_its_seq_after_a_takeover(commands in history()) {
        let run = run(commands.clone());
        let state = &run.states[0];
        let mut table = Table::default();
        run.frames.iter().for_each(|frame| table.project(frame));
        let loaded = Conversation::load(state.id(), table.load(state.id()));
        for row in table.0.values() {
            let Partition::Sender(id, sender) = &row.id.partition else { continue };
            let seen = row.read::<DedupeRow>().unwrap();
            let partition = Partition::bucket(*id, seen.seq);
            let at = RowId { partition, kind: Kind::Message, key: ClusteringKey::Number(seen.seq) };
            let change = table.0[&at].read::<MessageRow>().unwrap().into_change();
            let Event::Message(message) = change.event else { panic!("no message") };
            let actor = Actor { tenant: tenant(), user: sender.clone(), device: None };
            let retry = Command::User(UserCommand::Send(message.draft));
            prop_assert!(loaded.needs_dedupe_lookup(&actor, &retry));
            let starts = Starts::default();
            let moment = moment(loaded.location().placement.shard, 2_000, &starts);
            let decision = loaded.decide(moment, &actor, retry, Some(&seen));
            let Decision::Already(hearth_conversation::sequencer::Outcome::Ack(ack)) = decision else {
                return Err(TestCaseError::fail(format!("{decision:?}")));
            };
            prop_assert_eq!((ack.seq, ack.epoch, ack.duplicate), (seen.seq, seen.epoch, true));
        }
    }

    #[test]
    fn frames_survive_their_bytes(commands in history()) {
        for frame in run(commands).frames {
            let bytes = frame.to_bytes();
            prop_assert!(bytes.len() <= FRAME_OVERHEAD_BYTES + frame.changes.iter().map(change_bytes).sum::<usize>());
            prop_assert_eq!(LogFrame::from_bytes(&bytes).unwrap(), frame);
        }
    }

    #[test]
    fn garbage_is_never_a_frame_and_never_a_panic(
        mut bytes in proptest::collection::vec(any::<u8>(), 0..200),
        versioned in any::<bool>(),
    ) {
        if versioned && !bytes.is_empty() {
            bytes[0] = 1;
        }
        let _ = LogFrame::from_bytes(&bytes.into());
    }

    #[test]
    fn a_damaged_frame_is_never_a_panic(commands in history(), at in any::<proptest::sample::Index>(), to in any::<u8>()) {
        for frame in run(commands).frames {
            let mut bytes = frame.to_bytes().to_vec();
            let at = at.index(bytes.len());
            bytes[at] = to;
            let _ = LogFrame::from_bytes(&bytes.into());
        }
    }
}
