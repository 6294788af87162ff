//! What a frame means to readers.

use conversation::log::LogFrame;
use conversation::projection::{
    ChangeRow, Content, FactsRow, HeadRow, MessageRow, Projection, StampedRow, project,
};
use wire::change::{
    Change, Created, Event, Home, Joined, Left, MembersChanged, Message, MovedIn, MovedOut,
    Recorded, Role,
};
use wire::command::Draft;
use wire::{
    ClientMsgId, ConversationId, ConversationKind, Durability, Epoch, ShardId, Slot, TenantId,
    UserId,
};

use super::{Bench, REGIONS, at, conversation};
use crate::contract::Store;

pub(super) async fn cases(bench: &Bench<'_>) {
    what_was_never_created_is_not_there(bench).await;
    a_conversation_is_read_as_it_was_projected(bench).await;
    projecting_twice_is_projecting_once(bench).await;
    pages_of_messages_are_inclusive_and_in_order(bench).await;
    changes_go_on_after_a_ver_and_end_at_the_limit(bench).await;
    pages_go_on_in_the_next_bucket(bench).await;
    changes_end_at_the_first_that_is_missing(bench).await;
    rows_of_a_later_version_are_read(bench).await;
    a_late_projection_of_a_lost_term_changes_nothing(bench).await;
    a_send_is_remembered_with_its_place_in_the_log(bench).await;
    a_user_stream_lists_what_was_joined_and_left(bench).await;
    heads_and_read_cursors_come_in_the_order_asked(bench).await;
    what_two_shards_write_of_a_conversation_ranks_by_its_own_epoch(bench).await;
    a_scan_meets_what_was_born_in_a_shard_and_what_has_moved(bench).await;
}

fn user(name: &str) -> UserId {
    UserId::new(name).expect("a user id")
}

fn created(members: &[&str]) -> Event {
    let members = members.iter().map(|name| (user(name), Role::Member)).collect();
    let tenant = TenantId::new("demo").expect("a tenant");
    Event::Created(Created { tenant, name: Some("tea".into()), by: user("ann"), members })
}

fn message(seq: u64, sender: &str, body: &str) -> Event {
    Event::Message(Message {
        seq,
        sender: user(sender),
        device: None,
        draft: Draft::text(ClientMsgId::new(format!("m{seq}")).expect("an id"), body),
        recovered: false,
        later: Default::default(),
    })
}

fn change(id: ConversationId, ver: u64, event: Event) -> Recorded {
    Change { conversation: id, ver, epoch: Epoch(1), ts_ms: 1000 + ver, event }.into()
}

/// A frame, projected.
async fn put(store: &dyn Store, shard: ShardId, epoch: u64, slot: u64, changes: Vec<Recorded>) {
    let frame = LogFrame { epoch: Epoch(epoch), slot: Slot(slot), ts_ms: 1000, changes };
    store.project(shard, project(&frame)).await.expect("projected");
}

/// A group with `messages` messages: ver 1 creates it, message n is ver n + 1.
async fn group(store: &dyn Store, id: ConversationId, messages: u64) -> Vec<Recorded> {
    let mut changes = vec![change(id, 1, created(&["ann", "bob"]))];
    changes.extend(
        (1..=messages).map(|seq| change(id, seq + 1, message(seq, "ann", &format!("hello {seq}")))),
    );
    for (slot, chunk) in (0..).zip(changes.chunks(100)) {
        put(store, id.shard, 1, slot, chunk.to_vec()).await;
    }
    changes
}

async fn what_was_never_created_is_not_there(bench: &Bench<'_>) {
    for shard in bench.shards() {
        let id = conversation(shard, 1, ConversationKind::Group);
        let store = bench.store(1);
        assert_eq!(store.conversation(id).await, Ok(None));
        assert_eq!(store.messages(id, 1, 10).await, Ok(vec![]));
        assert_eq!(store.changes(id, 0, 10).await, Ok(vec![]));
        assert_eq!(store.heads(&[id]).await, Ok(vec![None]));
        assert_eq!(store.inbox(id).await, Ok(vec![]));
        let cmid = ClientMsgId::new("m1").expect("an id");
        assert_eq!(store.dedupe(id, &user("ann"), &cmid).await, Ok(None));
    }
}

async fn a_conversation_is_read_as_it_was_projected(bench: &Bench<'_>) {
    for shard in bench.shards() {
        let id = conversation(shard, 1, ConversationKind::Group);
        group(&*bench.store(1), id, 3).await;
        // Neighbours that must not show.
        group(&*bench.store(1), conversation(shard, 0, ConversationKind::Group), 1).await;
        group(&*bench.store(1), conversation(shard, 2, ConversationKind::Group), 1).await;
        let members = MembersChanged {
            by: user("ann"),
            added: vec![(user("cem"), Role::Admin)],
            removed: vec![user("bob")],
            roles: vec![(user("ann"), Role::Owner)],
            head_seq: 3,
            member_count: 3,
        };
        put(&*bench.store(1), shard, 1, 9, vec![change(id, 5, Event::MembersChanged(members))])
            .await;
        for region in REGIONS {
            let loaded =
                bench.store(region.0).conversation(id).await.expect("readable").expect("there");
            assert_eq!(loaded.facts.map(|facts| facts.by), Some(user("ann")));
            assert_eq!(loaded.head.map(|head| (head.head_ver, head.ts_ms)), Some((5, 1005)));
            assert_eq!(loaded.last_message.map(|last| (last.seq, last.ts_ms)), Some((3, 1004)));
            let members: Vec<_> =
                loaded.members.iter().map(|m| (m.user.as_str(), m.joined_seq, m.gone)).collect();
            assert_eq!(members, vec![("ann", 1, false), ("bob", 0, true), ("cem", 4, false)]);
            let roles: Vec<_> =
                loaded.roles.iter().map(|row| (row.user.as_str(), row.role)).collect();
            assert_eq!(
                roles,
                vec![("ann", Role::Owner), ("bob", Role::Member), ("cem", Role::Admin)]
            );
            assert_eq!(loaded.inbox, vec![]);
        }
    }
}

async fn projecting_twice_is_projecting_once(bench: &Bench<'_>) {
    let id = conversation(bench.shard(Durability::MultiRegion), 1, ConversationKind::Group);
    let changes = group(&*bench.store(1), id, 5).await;
    let before = bench.store(1).conversation(id).await;
    group(&*bench.store(2), id, 5).await;
    assert_eq!(bench.store(1).conversation(id).await, before);
    assert_eq!(bench.store(1).messages(id, 1, 100).await, Ok(changes[1..].to_vec()));
}

async fn pages_of_messages_are_inclusive_and_in_order(bench: &Bench<'_>) {
    for shard in bench.shards() {
        let id = conversation(shard, 1, ConversationKind::Group);
        let changes = group(&*bench.store(1), id, 260).await;
        let store = bench.store(2);
        assert_eq!(store.messages(id, 100, 200).await, Ok(changes[100..=200].to_vec()));
        assert_eq!(
            store.messages(id, 255, 259).await,
            Ok(changes[255..=259].to_vec()),
            "over a byte of the key"
        );
        assert_eq!(store.messages(id, 260, 400).await, Ok(changes[260..].to_vec()));
        assert_eq!(store.messages(id, 300, 200).await, Ok(vec![]));
        assert_eq!(store.messages(id, 1, u64::MAX).await, Ok(changes[1..].to_vec()));
    }
}

async fn changes_go_on_after_a_ver_and_end_at_the_limit(bench: &Bench<'_>) {
    for shard in bench.shards() {
        let id = conversation(shard, 1, ConversationKind::Group);
        let changes = group(&*bench.store(1), id, 30).await;
        let store = bench.store(3);
        assert_eq!(store.changes(id, 0, 100).await, Ok(changes.clone()));
        assert_eq!(store.changes(id, 10, 5).await, Ok(changes[10..15].to_vec()));
        assert_eq!(store.changes(id, 31, 5).await, Ok(vec![]));
        // A field that only a newer node knows comes back with the rest.
        let known = change(id, 32, message(31, "ann", "more"));
        let longer = Recorded::from_bytes([known.bytes(), &b"later"[..]].concat().into());
        let longer = vec![longer.expect("a change")];
        put(&*bench.store(1), shard, 1, 9, longer.clone()).await;
        assert_eq!(store.changes(id, 31, 5).await, Ok(longer.clone()));
        assert_eq!(store.messages(id, 31, 31).await, Ok(longer));
    }
}

/// R5: a stamp ranks by epoch, whatever the slots say.
async fn a_late_projection_of_a_lost_term_changes_nothing(bench: &Bench<'_>) {
    for shard in bench.shards() {
        let id = conversation(shard, 1, ConversationKind::Group);
        let store = bench.store(1);
        let row = |text: &str, stamp| {
            let change = change(id, 2, message(1, "ann", text));
            let row = MessageRow { conversation: id, seq: 1, change: change.to_bytes().into() };
            StampedRow::new(&row, stamp)
        };
        let head = |ver, epoch, stamp| {
            let (epoch, at) = (Epoch(epoch), at(epoch, ver));
            let row = HeadRow { conversation: id, head_ver: ver, epoch, ts_ms: 5, at };
            StampedRow::new(&row, stamp)
        };
        let (kept, lost, newer) = (at(2, 5), at(1, 900), at(2, 6));
        store.project(shard, vec![row("kept", kept), head(2, 2, kept)]).await.expect("projected");
        store.project(shard, vec![row("zombie", lost), head(9, 1, lost)]).await.expect("projected");
        assert_eq!(
            store.messages(id, 1, 1).await,
            Ok(vec![change(id, 2, message(1, "ann", "kept"))])
        );
        let heads = store.heads(&[id]).await.expect("readable");
        assert_eq!(heads[0].map(|heads| heads.head.head_ver), Some(2));
        store.project(shard, vec![row("newer", newer)]).await.expect("projected");
        assert_eq!(
            store.messages(id, 1, 1).await,
            Ok(vec![change(id, 2, message(1, "ann", "newer"))])
        );
    }
}

/// Buckets hold 2,048 numbers each: pages go over their edge, and no further than there is.
async fn pages_go_on_in_the_next_bucket(bench: &Bench<'_>) {
    for shard in bench.shards() {
        let id = conversation(shard, 1, ConversationKind::Group);
        let store = bench.store(1);
        let all: Vec<Recorded> = (2_040..=2_060)
            .map(|seq| change(id, seq, message(seq, "ann", &format!("hello {seq}"))))
            .collect();
        let rows = all.iter().flat_map(|change| {
            let (seq, at) = (change.ver, at(1, change.ver));
            let bytes = change.to_bytes().into();
            let message = MessageRow { conversation: id, seq, change: bytes };
            let content = Content::Message(seq);
            let change = ChangeRow { conversation: id, ver: seq, at, content };
            [StampedRow::new(&message, at), StampedRow::new(&change, at)]
        });
        store.project(shard, rows.collect()).await.expect("projected");
        assert_eq!(store.messages(id, 2_045, 2_055).await, Ok(all[5..=15].to_vec()));
        assert_eq!(store.messages(id, 2_049, 9_000).await, Ok(all[9..].to_vec()));
        assert_eq!(store.changes(id, 2_039, 100).await, Ok(all.clone()));
        assert_eq!(store.changes(id, 2_047, 3).await, Ok(all[8..11].to_vec()));
        assert_eq!(store.changes(id, 2_048, 3).await, Ok(all[9..12].to_vec()));
    }
}

/// A row is on its way: what stands behind it is not shown before it.
async fn changes_end_at_the_first_that_is_missing(bench: &Bench<'_>) {
    for shard in bench.shards() {
        let id = conversation(shard, 1, ConversationKind::Group);
        let changes = [1, 2, 4].map(|ver| change(id, ver, created(&["ann"])));
        for (slot, change) in (0..).zip(&changes) {
            put(&*bench.store(1), shard, 1, slot, vec![change.clone()]).await;
        }
        assert_eq!(bench.store(1).changes(id, 0, 10).await, Ok(changes[..2].to_vec()));
        assert_eq!(bench.store(1).changes(id, 3, 10).await, Ok(changes[2..].to_vec()));
    }
}

/// A later version adds fields at the end.
async fn rows_of_a_later_version_are_read(bench: &Bench<'_>) {
    let shard = bench.shard(Durability::MultiRegion);
    let id = conversation(shard, 1, ConversationKind::Group);
    group(&*bench.store(1), id, 1).await;
    let before = bench.store(1).conversation(id).await.expect("readable").expect("there");
    let facts: FactsRow = before.facts.clone().expect("created");
    let (stamp, value) = (at(1, 50), facts.value());
    let longer = [&value[..], b"fields of a later version"].concat().into();
    let row = StampedRow { value: longer, ..StampedRow::new(&facts, stamp) };
    bench.store(1).project(shard, vec![row]).await.expect("projected");
    assert_eq!(bench.store(2).conversation(id).await, Ok(Some(before.clone())));
}

async fn a_send_is_remembered_with_its_place_in_the_log(bench: &Bench<'_>) {
    for shard in bench.shards() {
        let id = conversation(shard, 1, ConversationKind::Group);
        put(&*bench.store(1), shard, 3, 8, vec![change(id, 1, message(1, "ann", "hello"))]).await;
        let seen = |sender: &'static str, cmid: &'static str| async move {
            let cmid = ClientMsgId::new(cmid).expect("an id");
            bench.store(1).dedupe(id, &user(sender), &cmid).await.expect("readable")
        };
        let found = seen("ann", "m1").await.expect("remembered");
        assert_eq!((found.seq, found.at), (1, at(3, 8)));
        assert_eq!(seen("bob", "m1").await, None);
        assert_eq!(seen("ann", "m2").await, None);
        assert_eq!(seen("an", "nm1").await, None, "sender and id do not run together");
    }
}

async fn a_user_stream_lists_what_was_joined_and_left(bench: &Bench<'_>) {
    for shard in bench.shards() {
        let stream = conversation(shard, 9, ConversationKind::User);
        let [a, b] = [1, 2].map(|n| conversation(shard, n, ConversationKind::Group));
        let joined = |id, ver| {
            Event::Joined(Joined { conversation: id, name: None, joined_seq: 1, at_ver: ver })
        };
        let store = bench.store(1);
        put(
            &*store,
            shard,
            1,
            0,
            vec![change(stream, 1, created(&["ann"])), change(stream, 2, joined(a, 1))],
        )
        .await;
        put(&*store, shard, 1, 1, vec![change(stream, 3, joined(b, 1))]).await;
        let left = Event::Left(Left { conversation: a, at_ver: 4 });
        put(&*store, shard, 1, 2, vec![change(stream, 4, left)]).await;
        let inbox = bench.store(2).inbox(stream).await.expect("readable");
        let lines: Vec<_> =
            inbox.iter().map(|row| (row.conversation, row.at_ver, row.left)).collect();
        assert_eq!(lines, vec![(a, 4, true), (b, 1, false)]);
        let loaded = bench.store(2).conversation(stream).await.expect("readable").expect("there");
        assert_eq!(loaded.inbox, inbox);
    }
}

async fn heads_and_read_cursors_come_in_the_order_asked(bench: &Bench<'_>) {
    let [one, two] = bench.shards();
    let a = conversation(one, 1, ConversationKind::Group);
    let b = conversation(two, 1, ConversationKind::Group);
    let none = conversation(two, 2, ConversationKind::Group);
    group(&*bench.store(1), a, 3).await;
    group(&*bench.store(1), b, 0).await;
    let heads = bench.store(2).heads(&[b, none, a]).await.expect("readable");
    let vers: Vec<_> = heads.iter().map(|heads| heads.map(|heads| heads.head.head_ver)).collect();
    assert_eq!(vers, vec![Some(1), None, Some(4)]);
    let seqs: Vec<_> =
        heads.iter().flatten().map(|heads| heads.last_message.map(|last| last.seq)).collect();
    assert_eq!(seqs, vec![None, Some(3)]);
    assert_eq!(bench.store(2).read_cursors(&user("ann"), &[none, a, b]).await, Ok(vec![0, 3, 0]));
    assert_eq!(bench.store(2).read_cursors(&user("bob"), &[a]).await, Ok(vec![0]));
}

/// It leaves a shard of many terms and slots for one of few.
async fn what_two_shards_write_of_a_conversation_ranks_by_its_own_epoch(bench: &Bench<'_>) {
    let born = bench.shard(Durability::MultiRegion);
    let here = Home { generation: 1, shard: ShardId { n: born.n + 1, ..born } };
    let id = conversation(born, 1, ConversationKind::Group);
    let seen = |ver, epoch, event| {
        let seen = change(id, ver, event).into_change();
        Recorded::from(Change { epoch: Epoch(epoch), ..seen })
    };
    let out = MovedOut { to: here, head_seq: 0, tenures: vec![] };
    let moved = MovedIn { here, from: born, epoch_base: Epoch(7), tenures: vec![] };
    put(
        &*bench.store(1),
        born,
        7,
        900,
        vec![seen(1, 7, created(&["ann"])), seen(2, 7, Event::MovedOut(out))],
    )
    .await;
    let left = bench
        .store(2)
        .conversation(id)
        .await
        .expect("readable")
        .expect("there")
        .placement
        .expect("placed");
    assert_eq!((left.location.placement, left.location.arrived), (here, false));
    let there = vec![seen(3, 8, Event::MovedIn(moved)), seen(4, 8, message(1, "ann", "hello"))];
    put(&*bench.store(2), here.shard, 1, 3, there).await;
    let loaded = bench.store(1).conversation(id).await.expect("readable").expect("there");
    let location = loaded.placement.expect("placed").location;
    assert!(location.arrived && location.epoch_base == Epoch(7), "{location:?}");
    assert_eq!(loaded.head.map(|head| (head.head_ver, head.epoch)), Some((4, Epoch(8))));
    assert_eq!(bench.store(1).changes(id, 0, 9).await.map(|changes| changes.len()), Ok(4));
}

async fn a_scan_meets_what_was_born_in_a_shard_and_what_has_moved(bench: &Bench<'_>) {
    // More than one page.
    const BORN: u16 = 1_100;
    for shard in bench.shards() {
        let other = bench.shard(shard.durability);
        let numbered = |n: u16| {
            let [high, low] = n.to_be_bytes();
            let mut unique = [0; 16];
            unique[..2].copy_from_slice(&[high, low]);
            ConversationId { kind: ConversationKind::Group, shard, unique }
        };
        let store = bench.store(1);
        for chunk in (0..BORN).collect::<Vec<_>>().chunks(100) {
            let changes =
                chunk.iter().map(|&n| change(numbered(n), 1, created(&["ann"]))).collect();
            put(&*store, shard, 1, 4, changes).await;
        }
        let stream = conversation(shard, 9, ConversationKind::User);
        put(&*store, shard, 1, 5, vec![change(stream, 1, created(&["ann"]))]).await;
        // Neighbours: one stays where it is, one leaves for a third shard.
        let [tenures, leaves] = [1, 2].map(|n| conversation(other, n, ConversationKind::Group));
        let to = Home { generation: 1, shard: ShardId { n: 999, ..other } };
        let out = Event::MovedOut(MovedOut { to, head_seq: 0, tenures: vec![] });
        let changes = [
            change(tenures, 1, created(&["ann"])),
            change(leaves, 1, created(&["ann"])),
            change(leaves, 2, out),
        ];
        put(&*store, other, 1, 0, changes.to_vec()).await;

        let mut met = Vec::new();
        let mut after = None;
        loop {
            let page = bench.store(2).conversations(shard, after).await.expect("readable");
            met.extend(page.met);
            match page.next {
                Some(next) => after = Some(next),
                None => break,
            }
        }
        assert!(
            met.iter().all(|met| met.moved || met.head.conversation.shard == shard),
            "no others"
        );
        let find = |id| {
            met.iter()
                .find(|met| met.head.conversation == id)
                .map(|met| (met.head.head_ver, met.moved))
        };
        let born = (0..BORN).map(numbered).chain([stream]);
        for id in born {
            assert_eq!(find(id), Some((1, false)), "{id}");
        }
        assert_eq!((find(leaves), find(tenures)), (Some((2, true)), None));
        let mut ids: Vec<_> = met.iter().map(|met| met.head.conversation.to_bytes()).collect();
        let all = ids.len();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), all, "each once");
        assert!(
            met.iter().all(|met| met.head.conversation != stream || met.head.at == at(1, 5)),
            "with its place"
        );
    }
}
