use std::fmt::Write as _;

use wire::change::{Home, Joined, Left, MovedIn, MovedOut, Tenure};
use wire::codec::Unknown;
use wire::command::Draft;
use wire::message::{Body, Opaque};
use wire::{
    ClientMsgId, ConversationKind, Durability, Epoch, RegionId, ShardId, Slot, TenantId, ZoneId,
};

use super::*;
use crate::rebuild::{Gap, Rebuilt};

fn shard(n: u16) -> ShardId {
    ShardId { zone: ZoneId(1), home: RegionId(2), durability: Durability::Region, n }
}

fn id(kind: ConversationKind) -> ConversationId {
    ConversationId { kind, shard: shard(3), unique: [5; 16] }
}

fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

fn message(seq: u64, body: Body) -> Event {
    let mentions = vec![user("bob")];
    let meta = Some(r#"{"b":1,"a":2}"#.to_owned());
    let draft = Draft::text(ClientMsgId::new(format!("m-{seq}")).unwrap(), "");
    let draft = Draft { body, mentions, meta, ..draft };
    Event::Message(Message {
        seq,
        sender: user("ann"),
        device: None,
        draft,
        recovered: false,
        later: Default::default(),
    })
}

fn frame(kind: ConversationKind, events: Vec<Event>) -> LogFrame {
    let change = |(ver, event)| Change {
        conversation: id(kind),
        ver,
        epoch: Epoch(4),
        ts_ms: 1_000 + ver,
        event,
    };
    let changes = (1..).zip(events).map(change).map(Recorded::from).collect();
    LogFrame { epoch: Epoch(4), slot: Slot(300), ts_ms: 1_002, changes }
}

/// A frame for each event, by name.
fn frames() -> Vec<(&'static str, LogFrame)> {
    let created = Created {
        tenant: TenantId::new("demo").unwrap(),
        name: Some("tea".into()),
        by: user("ann"),
        members: vec![(user("ann"), Role::Owner), (user("bob"), Role::Member)],
    };
    let changed = MembersChanged {
        by: user("ann"),
        added: vec![(user("cem"), Role::Member)],
        removed: vec![user("bob")],
        roles: vec![(user("dan"), Role::Admin)],
        head_seq: 8,
        member_count: 2,
    };
    let conversation = id(ConversationKind::Group);
    let joined = Joined { conversation, name: Some("tea".into()), joined_seq: 9, at_ver: 3 };
    let left = Left { conversation, at_ver: 4 };
    let (after, until, ended_ts_ms) = (Epoch(1), Epoch(5), 1_000);
    let starts = vec![(Epoch(2), Slot(40))];
    let tenures = vec![Tenure { shard: shard(3), after, until, ended_ts_ms, starts }];
    let to = Home { generation: 2, shard: shard(4) };
    let out = MovedOut { to, head_seq: 8, tenures: tenures.clone() };
    let here = Home { generation: 2, shard: shard(3) };
    let moved = MovedIn { here, from: shard(4), epoch_base: Epoch(6), tenures };
    let opaque = Opaque { scheme: "mls".into(), content: vec![3; 9].into() };
    let unknown = Unknown::new(4711, &b"of a newer node"[..]);
    let (group, stream) = (ConversationKind::Group, ConversationKind::User);
    vec![
        ("created", frame(group, vec![Event::Created(created)])),
        ("message", frame(group, vec![message(8, "hello".into())])),
        ("opaque", frame(group, vec![message(8, Body::Opaque(opaque))])),
        ("members-changed", frame(group, vec![Event::MembersChanged(changed)])),
        ("joined", frame(stream, vec![Event::Joined(joined)])),
        ("left", frame(stream, vec![Event::Left(left)])),
        ("moved-out", frame(group, vec![Event::MovedOut(out)])),
        ("moved-in", frame(group, vec![Event::MovedIn(moved)])),
        ("unknown", frame(group, vec![Event::Unknown(unknown)])),
    ]
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut out, byte| {
        write!(out, "{byte:02x}").unwrap();
        out
    })
}

/// `HEARTH_GOLDEN=write` writes the file anew. When a line changes, rows that are stored may no
/// longer be understood.
#[test]
fn the_bytes_of_rows_stay() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/rows.hex");
    let mut now = String::new();
    let mut kinds: Vec<Kind> = Vec::new();
    for (name, frame) in frames() {
        for StampedRow { id, value, .. } in project(&frame) {
            kinds.push(id.kind);
            let key = hex(&id.key.to_bytes());
            writeln!(now, "{name} {:?} {key} {}", id.kind, hex(&value)).unwrap();
        }
    }
    assert!(Kind::ALL.iter().all(|kind| kinds.contains(kind)), "every kind of row has its bytes");
    if std::env::var("HEARTH_GOLDEN").as_deref() == Ok("write") {
        std::fs::write(path, &now).unwrap();
    }
    let golden = std::fs::read_to_string(path).unwrap();
    for (golden, now) in golden.lines().zip(now.lines()) {
        assert_eq!(now, golden, "the bytes of a row have changed");
    }
    assert_eq!(now.lines().count(), golden.lines().count(), "rows came or went");
}

/// A change with fields that this version does not know.
fn longer(change: &Recorded) -> Recorded {
    let mut bytes = change.bytes().to_vec();
    bytes.extend_from_slice(b"later");
    let longer = Recorded::from_bytes(bytes.into()).unwrap();
    assert!(*longer == **change && longer != *change);
    longer
}

#[test]
fn fields_of_a_newer_node_stay_in_rows_and_in_frames_that_are_made_of_them() {
    for (name, mut frame) in frames() {
        frame.changes = frame.changes.iter().map(longer).collect();
        let frame = LogFrame::from_bytes(&frame.to_bytes()).unwrap();
        let expected = &frame.changes[0];
        let rows = project(&frame);
        let entry = rows.iter().find_map(StampedRow::read::<ChangeRow>).unwrap();
        let message = rows.iter().find_map(StampedRow::read::<MessageRow>);
        let whole = with_messages(vec![entry], message.into_iter().collect());
        assert_eq!(whole, [(frame.at(), expected.clone())], "{name}");

        let starts = [(Epoch(4), Slot(0))].into_iter().collect();
        let gap = Gap { shard: shard(3), starts, from: Slot(300), until: Slot(301) };
        let mut rebuilt = Rebuilt::new(expected.conversation);
        for (at, change) in whole {
            assert_eq!(rebuilt.take(&gap, at, change), None);
        }
        assert_eq!(rebuilt.end().unwrap().changes, frame.changes, "{name}");
    }
}
