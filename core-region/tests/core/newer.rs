//! A node of the next minor version beside a core of this one: over the mesh, and over one log. The
//! newer node's bytes come from an encoder of the test, which appends fields and kinds.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use conversation::log::LogFrame;
use hearth_core_region::Limits;
use store::{Layer, Layered, Store, StoreError};
use wire::change::{Change, Event, Role};
use wire::codec::{self, Numbered as _, Reader, SKIPPABLE, Unknown};
use wire::command::{Command, Query, UserCommand};
use wire::stream::{FromOwner, Purpose, ToOwner};
use wire::version::{Feature, Features};
use wire::{ConversationId, Epoch, ErrorCode, Position, RegionId, ShardId, Slot};

use super::edge::{ack, actor, send, user, vers};
use super::harness::{Harness, ONE, THREE, eventually, node};

/// A kind of everything that only the next version knows.
const NEW_KIND: u16 = 900;

/// What the next version writes behind the fields of this one.
fn later(out: &mut Vec<u8>) {
    codec::write(&("a field of the next version", 42u64), out);
}

fn with_later(bytes: &[u8]) -> Bytes {
    let mut bytes = bytes.to_vec();
    later(&mut bytes);
    bytes.into()
}

fn unknown() -> Unknown {
    Unknown::new(NEW_KIND, b"who knows".to_vec())
}

fn newer_features() -> Features {
    let mut bytes = Vec::new();
    codec::write(&vec![Feature::Moves.number(), 999], &mut bytes);
    Reader::new(&bytes).fields().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newer_edge_is_answered_what_is_known_and_told_what_is_not() {
    let mut site = Harness::start(ONE).await;
    let edge = site.edge_with(&node("r1/edge/1"), newer_features());
    let ann = actor("demo", "ann");
    let id = edge.group_in(site.shard(1, 0));
    edge.create(&ann, id, &[]).await;
    let mut stream = edge.open(id.shard).await;
    let core = site.owner(&id.shard).await;
    let links = site.cores[&core].mesh.links();
    let told = links.iter().find(|link| link.peer == *edge.mesh.node()).unwrap();
    assert_eq!(told.features, Some(newer_features()), "features of a newer node are kept");

    let refused = stream.command(&ann, id, Command::Unknown(unknown())).await.unwrap();
    assert_eq!(refused.unwrap_err().code, ErrorCode::UnknownType);
    let refused = stream.query(Some(&ann), id, Query::Unknown(unknown())).await.unwrap();
    assert_eq!(refused.unwrap_err().code, ErrorCode::UnknownType);

    let skippable = Unknown { flags: SKIPPABLE, ..unknown() };
    stream.raw(ToOwner::Unknown(skippable).to_bytes()).await;
    stream.raw(ToOwner::Unknown(unknown()).to_bytes()).await;
    assert_eq!(stream.next().await, Some(FromOwner::Unsupported { kind: NEW_KIND }));

    // A purpose of the next version: that channel is refused, the link and its streams live on.
    let unknown_purpose = Purpose::Unknown(unknown());
    let mut channel = edge.mesh.open(&core, unknown_purpose).await.unwrap();
    let why = channel.recv().await.unwrap_err().to_string();
    assert!(why.contains("purpose"), "{why}");

    let frame = ToOwner::Command {
        rid: 77,
        actor: ann.clone(),
        conversation: id,
        command: send("m-1", "x").into(),
    };
    stream.raw(with_later(&frame.to_bytes())).await;
    assert_eq!(ack(stream.answer(77).await.unwrap()).seq, 1, "more fields are skipped");
    assert_eq!(ack(stream.command(&ann, id, send("m-2", "x")).await.unwrap()).seq, 2);
}

/// The store under a core of the next version: what it appends has more fields, and a change of
/// members is an event that this version does not know.
struct NewerLog(Arc<dyn Store>);

#[async_trait]
impl Layer for NewerLog {
    fn below(&self) -> &Arc<dyn Store> {
        &self.0
    }

    fn over(&self, store: Arc<dyn Store>) -> Self {
        Self(store)
    }

    async fn append(&self, shard: ShardId, at: Position, frame: Bytes) -> Result<(), StoreError> {
        // Written again, as by a takeover: the same bytes always stand at the same place.
        let there = self.0.read_log(shard, at.slot, 10).await?;
        let frame = match there.into_iter().find(|row| row.at == at) {
            Some(row) => row.frame,
            None => newer_frame(&frame),
        };
        self.0.append(shard, at, frame).await
    }
}

fn newer_frame(frame: &Bytes) -> Bytes {
    let LogFrame { epoch, slot, ts_ms, changes } = LogFrame::from_bytes(frame).unwrap();
    let changes: Vec<Vec<u8>> = changes.iter().map(|change| newer_change(change)).collect();
    let mut newer = vec![frame[0]];
    codec::write(&(epoch, slot, ts_ms, changes), &mut newer);
    with_later(&newer)
}

fn newer_change(change: &Change) -> Vec<u8> {
    let mut fields = Vec::new();
    let mut head = change.event.pack(&mut fields);
    match change.event {
        // It has been this core's before.
        Event::Unknown(_) => {}
        Event::MembersChanged(_) => {
            head.kind = NEW_KIND;
            later(&mut fields);
        }
        Event::Created(_)
        | Event::Message(_)
        | Event::Joined(_)
        | Event::Left(_)
        | Event::MovedOut(_)
        | Event::MovedIn(_) => later(&mut fields),
    }
    let Change { conversation, ver, epoch, ts_ms, .. } = change;
    let mut record = Vec::new();
    let event = (head.kind, head.flags, fields);
    codec::write(&(conversation, ver, epoch, ts_ms, event), &mut record);
    later(&mut record);
    record
}

/// Reads a frame as the next version does: every change and every event has its later fields.
fn changes_with_later_fields(frame: &[u8]) -> usize {
    type Record = (ConversationId, u64, Epoch, u64, (u16, u8, Vec<u8>));
    let mut reader = Reader::new(&frame[1..]);
    let (_, _, _, changes): (Epoch, Slot, u64, Vec<Vec<u8>>) = reader.fields().unwrap();
    let of_next = ("a field of the next version", 42u64);
    assert_eq!(reader.fields(), Ok(of_next));
    for change in &changes {
        let mut reader = Reader::new(change);
        let (_, _, _, _, (_, _, event)): Record = reader.fields().unwrap();
        assert_eq!(reader.fields(), Ok(of_next));
        let mut end = Vec::new();
        later(&mut end);
        assert!(event.ends_with(&end));
    }
    changes.len()
}

async fn log(site: &Harness, shard: ShardId) -> Vec<(Position, Bytes)> {
    let rows = site.store(RegionId(2)).read_log(shard, Slot(0), 1_000).await.unwrap();
    rows.into_iter().map(|row| (row.at, row.frame)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_of_a_newer_core_is_taken_over_served_and_given_back() {
    let mut site = Harness::empty(THREE);
    let newer = node("r1/core/1");
    let add_newer = |site: &mut Harness| {
        let store: Arc<dyn Store> = Arc::new(Layered(NewerLog(site.store(RegionId(1)))));
        site.add_with(&newer, store, Limits::default());
    };
    add_newer(&mut site);
    site.add(&node("r2/core/1"));
    site.add(&node("r3/core/1"));
    site.settled().await;
    let edge = site.edge(&node("r1/edge/1"));
    let ann = actor("demo", "ann");
    let id = edge.group_in(site.shard(1, 0));
    edge.create(&ann, id, &["bob"]).await;
    assert_eq!(site.owner(&id.shard).await, newer);
    edge.send(&ann, id, "m-1", "x").await;
    let roles = vec![(user("bob"), Role::Admin)];
    let promoted = UserCommand::ChangeMembers { add: vec![], remove: vec![], roles };
    edge.ask(&ann, id, promoted).await.unwrap();
    edge.send(&ann, id, "m-2", "x").await;
    site.kill(&newer);

    // A core of this version takes it over.
    let mut stream = edge.open(id.shard).await;
    let written = log(&site, id.shard).await;
    let newer_changes: usize =
        written.iter().map(|(_, frame)| changes_with_later_fields(frame)).sum();
    assert!(newer_changes >= 4, "{newer_changes}");
    stream.watch(id, Some(0), &[]).await.unwrap().unwrap();
    let fed = stream.deliveries(4).await;
    assert_eq!(vers(&fed)[&id], [1, 2, 3, 4]);
    let known = fed[2].change.event.clone();
    assert!(matches!(&known, Event::Unknown(unknown) if unknown.kind == NEW_KIND), "{known:?}");
    let again = ack(stream.command(&ann, id, send("m-2", "x")).await.unwrap());
    assert_eq!((again.seq, again.duplicate), (2, true), "a retry across the takeover");
    assert_eq!(ack(stream.command(&ann, id, send("m-3", "x")).await.unwrap()).seq, 3);
    let history = [(1, "m-1".to_owned()), (2, "m-2".to_owned()), (3, "m-3".to_owned())];
    assert_eq!(edge.history(&ann, id).await, history);

    // What stood there was written again at the takeover, byte for byte.
    let now = log(&site, id.shard).await;
    assert_eq!(now[..written.len()], written, "the log as the newer core wrote it");

    // The newer one takes it back, and finds what it had written.
    add_newer(&mut site);
    eventually("the newer core to serve", || {
        (site.owners(&id.shard) == [newer.clone()]).then_some(())
    })
    .await;
    let mut stream = edge.open(id.shard).await;
    assert_eq!(ack(stream.command(&ann, id, send("m-4", "x")).await.unwrap()).seq, 4);
    stream.watch(id, Some(0), &[]).await.unwrap().unwrap();
    assert_eq!(vers(&stream.deliveries(6).await)[&id], [1, 2, 3, 4, 5, 6]);
    let given_back = log(&site, id.shard).await;
    assert_eq!(given_back[..written.len()], written);
}
