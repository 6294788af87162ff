use serde_json::json;

use super::*;

fn id(n: u8) -> ConversationId {
    let mut bytes = [0; 23];
    (bytes[0], bytes[22]) = (0x11, n);
    ConversationId::from_bytes(&bytes).unwrap()
}

fn model() -> Model {
    let mut model =
        Model::new(UserId::new("ann").unwrap(), TenantId::new("demo").unwrap(), UtcOffset::UTC);
    let n = model.upsert(&group(1, &["ann", "bob"]));
    model.switch(n);
    model.upsert(&group(2, &["ann", "cid"]));
    model
}

fn group(n: u8, members: &[&str]) -> GroupPayload {
    let members: Vec<_> = members
        .iter()
        .map(|user| json!({"user_id": user, "role": "member", "joined_seq": 1}))
        .collect();
    serde_json::from_value(json!({"conversation_id": id(n), "kind": "group", "name": format!("room{n}"), "zone": "z",
        "home_region": "r", "acting_region": "r", "durability": "multi-region", "epoch": 1, "head_seq": 0,
        "member_count": members.len(), "members": members}))
    .unwrap()
}

fn message(seq: u64, sender: &str, message_id: &str, body: &str) -> MessagePayload {
    serde_json::from_value(
        json!({"message_id": message_id, "seq": seq, "ver": seq, "epoch": 1, "sender": sender,
        "device_id": "", "ts_ms": 45_000_000, "body": body}),
    )
    .unwrap()
}

fn ack(seq: u64) -> Ack {
    serde_json::from_value(json!({"message_id": "m", "seq": seq, "epoch": 1, "ts_ms": 45_000_000,
        "durability": "multi-region", "duplicate": false}))
    .unwrap()
}

#[test]
fn ones_own_message_is_told_once_whichever_comes_first() {
    for ack_first in [true, false] {
        let mut model = model();
        let cmid = ClientMsgId::new("x").unwrap();
        let message_id = model.sending(id(1), &cmid, "hi");
        assert_eq!(model.rooms[0].pending[0].state, Delivery::Sending);
        let shown_back = message(1, "ann", &message_id, "hi");
        if ack_first {
            model.sent(id(1), &message_id, Ok(&ack(1)));
            model.message(id(1), &shown_back, true);
        } else {
            model.message(id(1), &shown_back, true);
            model.sent(id(1), &message_id, Ok(&ack(1)));
        }
        let told: Vec<_> = model.news().collect();
        let delivered = News::Delivered {
            seq: 1,
            time: "12:30".into(),
            body: "hi".into(),
            durability: Durability::MultiRegion,
        };
        assert_eq!(told, [delivered]);
        let room = model.room().unwrap();
        assert!(room.pending.is_empty() && room.messages[&1].delivery.is_some());
    }
}

#[test]
fn a_message_elsewhere_is_unread_until_the_user_goes_there() {
    let mut model = model();
    model.message(id(2), &message(1, "cid", "a", "psst\x1b[2J"), true);
    model.message(id(2), &message(1, "cid", "a", "psst"), true);
    assert_eq!(model.rooms[1].unread, 1);
    let told: Vec<_> = model.news().collect();
    assert!(
        matches!(&told[..], [News::Message { room: Some(room), body, .. }] if room == "#room2" && !body.contains('\x1b'))
    );
    let n = model.find("room2").unwrap();
    assert_eq!((Some(n), Some(n)), (model.find("2"), model.find("#room2")));
    model.switch(n);
    assert_eq!(model.rooms[1].unread, 0);
    assert_eq!((model.find("3"), model.find("0"), model.find("nowhere")), (None, None, None));
}

#[test]
fn comings_and_goings_are_told_and_a_room_that_is_left_is_gone() {
    let mut model = model();
    let update = json!({"ver": 5, "epoch": 1, "by": "ann", "removed": ["bob"],
        "added": [{"user_id": "cid", "role": "member"}], "member_count": 2});
    model.updated(id(1), &serde_json::from_value(update).unwrap());
    assert_eq!(model.rooms[0].members.keys().collect::<Vec<_>>(), ["ann", "cid"]);
    assert!(model.news().any(|news| news == News::Aside("#room1: +cid -bob".into())));
    model.left(id(1));
    assert_eq!((model.current, model.rooms.len()), (None, 1));
    model.left(id(1));
}

#[test]
fn a_message_that_is_refused_stays_and_says_why() {
    let mut model = model();
    let message_id = model.sending(id(1), &ClientMsgId::new("x").unwrap(), "hi");
    model.sent(id(1), &message_id, Err("not_a_member: no".into()));
    assert!(
        matches!(&model.rooms[0].pending[0].state, Delivery::Failed(why) if why.contains("no"))
    );
}

#[test]
fn a_higher_epoch_asks_once_where_the_room_is_served_now() {
    let mut model = model();
    let mut taken_over = message(1, "bob", "a", "hi");
    assert!(!model.message(id(1), &taken_over, true), "nothing has changed");
    (taken_over.seq, taken_over.epoch) = (2, 7);
    assert!(model.message(id(1), &taken_over, true));
    taken_over.seq = 3;
    assert!(!model.message(id(1), &taken_over, true), "it was asked for already");
}
