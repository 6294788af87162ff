//! One value of every form.

use bytes::Bytes;

use crate::change::{
    Change, Created, Event, Home, Joined, Left, MembersChanged, MovedIn, MovedOut, Role, Tenure,
};
use crate::codec::Unknown;
use crate::command::{
    Ack, Actor, Answer, Delivery, InboxLine, MemberView, MeshCommand, Query, Refusal, UserCommand,
    View,
};
use crate::ids::{
    ClientMsgId, ConversationId, ConversationKind, DeviceId, Durability, Epoch, NodeId, RegionId,
    ShardId, Slot, TenantId, UserId, ZoneId,
};
use crate::message::{Body, Draft, Message, Opaque, Sealed};
use crate::stream::{FromOwner, NodeReply, NodeRequest, StreamEnd, ToOwner};
use crate::{ErrorCode, command::Command};

pub(super) fn unknown() -> Unknown {
    Unknown::new(4711, Bytes::from_static(b"of a newer node"))
}

pub(super) fn shard() -> ShardId {
    ShardId { zone: ZoneId(1), home: RegionId(2), durability: Durability::MultiRegion, n: 3 }
}

pub(super) fn conversation() -> ConversationId {
    ConversationId { kind: ConversationKind::Group, shard: shard(), unique: [7; 16] }
}

fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

pub(super) fn actor() -> Actor {
    let tenant = TenantId::new("demo").unwrap();
    Actor { tenant, user: user("ann"), device: Some(DeviceId::new("phone").unwrap()) }
}

pub(super) fn message() -> Message {
    Message {
        seq: 8,
        sender: user("ann"),
        device: Some(DeviceId::new("phone").unwrap()),
        draft: draft(),
        recovered: false,
        later: Default::default(),
    }
}

/// One body of each kind that is no text.
pub(super) fn bodies() -> Vec<(&'static str, Body)> {
    let sealed = Sealed {
        key_id: "z1/7".into(),
        nonce: Bytes::from_static(&[1; 12]),
        ciphertext: Bytes::from_static(&[2; 21]),
    };
    let opaque = Opaque { scheme: "mls".into(), content: Bytes::from_static(&[3; 9]) };
    vec![
        ("sealed", Body::Sealed(sealed)),
        ("opaque", Body::Opaque(opaque)),
        ("unknown", Body::Unknown(unknown())),
    ]
}

pub(super) fn draft() -> Draft {
    Draft {
        client_msg_id: ClientMsgId::new("m-1").unwrap(),
        body: "hello".into(),
        reply_to: Some(2),
        thread: None,
        mentions: vec![user("bob")],
        meta: Some(r#"{"b":1,"a":2}"#.into()),
        later: Default::default(),
    }
}

pub(super) fn created() -> Created {
    let members = vec![(user("ann"), Role::Owner), (user("bob"), Role::Member)];
    let tenant = TenantId::new("demo").unwrap();
    Created { tenant, name: Some("tea".into()), by: user("ann"), members }
}

pub(super) fn members_changed() -> MembersChanged {
    MembersChanged {
        by: user("ann"),
        added: vec![(user("cem"), Role::Member)],
        removed: vec![user("bob")],
        roles: vec![(user("dan"), Role::Admin)],
        head_seq: 8,
        member_count: 3,
    }
}

pub(super) fn joined() -> Joined {
    Joined { conversation: conversation(), name: Some("tea".into()), joined_seq: 9, at_ver: 3 }
}

pub(super) fn left() -> Left {
    Left { conversation: conversation(), at_ver: 4 }
}

fn home() -> Home {
    Home { generation: 2, shard: shard() }
}

pub(super) fn tenure() -> Tenure {
    Tenure {
        shard: shard(),
        after: Epoch(1),
        until: Epoch(5),
        ended_ts_ms: 1_000,
        starts: vec![(Epoch(2), Slot(40))],
    }
}

pub(super) fn moved_out() -> MovedOut {
    MovedOut { to: home(), head_seq: 8, tenures: vec![tenure()] }
}

pub(super) fn moved_in() -> MovedIn {
    MovedIn { here: home(), from: shard(), epoch_base: Epoch(6), tenures: vec![tenure()] }
}

pub(super) fn change(event: Event) -> Change {
    Change { conversation: conversation(), ver: 9, epoch: Epoch(2), ts_ms: 300, event }
}

pub(super) fn changes() -> Vec<(String, Change)> {
    [
        ("created", Event::Created(created())),
        ("message", Event::Message(message())),
        ("members-changed", Event::MembersChanged(members_changed())),
        ("joined", Event::Joined(joined())),
        ("left", Event::Left(left())),
        ("moved-out", Event::MovedOut(moved_out())),
        ("moved-in", Event::MovedIn(moved_in())),
        ("unknown", Event::Unknown(unknown())),
    ]
    .map(|(name, event)| (name.to_owned(), change(event)))
    .into_iter()
    .chain(bodies().into_iter().map(|(kind, body)| {
        let message = Message { draft: Draft { body, ..draft() }, ..message() };
        (format!("message-{kind}"), change(Event::Message(message)))
    }))
    .collect()
}

pub(super) fn commands() -> Vec<(&'static str, Command)> {
    let (add, remove) = (vec![user("cem")], vec![user("bob")]);
    let roles = vec![(user("dan"), Role::Admin)];
    let group = UserCommand::CreateGroup { name: "tea".into(), members: vec![user("bob")] };
    let Joined { conversation, name, joined_seq, at_ver } = joined();
    vec![
        ("create-group", group.into()),
        ("open-direct", UserCommand::OpenDirect { with: user("bob") }.into()),
        ("send", UserCommand::Send(draft()).into()),
        ("change-members", UserCommand::ChangeMembers { add, remove, roles }.into()),
        ("note-joined", MeshCommand::NoteJoined { conversation, name, joined_seq, at_ver }.into()),
        ("note-left", MeshCommand::NoteLeft { conversation, at_ver }.into()),
        ("move", MeshCommand::Move { to: shard() }.into()),
        ("accept-transfer", MeshCommand::AcceptTransfer { n: 2, ver: 9, from: shard() }.into()),
        ("unknown", Command::Unknown(unknown())),
    ]
}

pub(super) fn queries() -> Vec<(&'static str, Query)> {
    vec![
        ("history", Query::History { before: Some(9), after: None, limit: 50 }),
        ("changes", Query::Changes { after_ver: 4, limit: 50 }),
        ("view", Query::View { members_after: Some(user("bob")) }),
        ("inbox", Query::Inbox { after: Some(conversation()), limit: 20 }),
        ("unknown", Query::Unknown(unknown())),
    ]
}

pub(super) fn ack() -> Ack {
    Ack { seq: 8, epoch: Epoch(2), ts_ms: 300, duplicate: true }
}

pub(super) fn member() -> MemberView {
    MemberView { user_id: user("ann"), role: Role::Owner, joined_seq: 1 }
}

pub(super) fn view() -> View {
    View {
        conversation: conversation(),
        name: Some("tea".into()),
        acting_region: RegionId(2),
        epoch: Epoch(2),
        head_seq: 8,
        head_ver: 9,
        members: vec![member()],
        members_next: Some(user("ann")),
        member_count: 2,
    }
}

pub(super) fn line() -> InboxLine {
    InboxLine {
        conversation: conversation(),
        name: Some("tea".into()),
        at_ver: 3,
        joined_seq: 9,
        head_seq: 12,
        read_seq: 10,
        last_ts_ms: 300,
    }
}

pub(super) fn delivery() -> Delivery {
    let change = change(Event::MembersChanged(members_changed()));
    Delivery { change: change.into(), view: Some(Box::new(view())) }
}

pub(super) fn refusal() -> Refusal {
    Refusal { retry_after_ms: Some(500), ..Refusal::new(ErrorCode::Overloaded, "too much") }
}

pub(super) fn answers() -> Vec<(&'static str, Answer)> {
    let messages = vec![change(Event::Message(message())).into()];
    let (head_seq, head_ver) = (8, 9);
    vec![
        ("ack", Answer::Ack(ack())),
        ("view", Answer::View { view: Box::new(view()), created: true }),
        ("history", Answer::History { messages, head_seq, head_ver, has_more: true }),
        ("changes", Answer::Changes { changes: vec![delivery()], head_ver }),
        ("inbox", Answer::Inbox { lines: vec![line()], next: None, head_ver }),
        ("noted", Answer::Noted),
        (
            "watching",
            Answer::Watching {
                head_ver,
                head_seq,
                members: vec![user("ann")],
                head_epoch: Some(Epoch(2)),
            },
        ),
        ("moving", Answer::Moving(home())),
        ("transfer-accepted", Answer::TransferAccepted { everywhere: true }),
        ("unknown", Answer::Unknown(unknown())),
    ]
}

pub(super) fn to_owner() -> Vec<(String, ToOwner)> {
    let conversation = conversation();
    let commands = commands().into_iter().map(|(name, command)| {
        let frame = ToOwner::Command { rid: 1, actor: actor(), conversation, command };
        (format!("command-{name}"), frame)
    });
    let queries = queries().into_iter().map(|(name, query)| {
        let frame = ToOwner::Query { rid: 2, actor: Some(actor()), conversation, query };
        (format!("query-{name}"), frame)
    });
    let (after_ver, after_epoch) = (Some(1), Some(Epoch(2)));
    let users = vec![user("ann")];
    let others = [
        ("watch", ToOwner::Watch { rid: 3, conversation, after_ver, users, after_epoch }),
        ("unwatch", ToOwner::Unwatch { conversation }),
        ("unsupported", ToOwner::Unsupported { kind: 99 }),
        ("unknown", ToOwner::Unknown(unknown())),
    ];
    let others = others.map(|(name, frame)| (name.to_owned(), frame));
    commands.chain(queries).chain(others).collect()
}

pub(super) fn ends() -> Vec<(&'static str, StreamEnd)> {
    let owner: NodeId = "r1/core/2".parse().unwrap();
    vec![
        ("not-owner", StreamEnd::NotOwner { owner: Some(owner) }),
        ("stopping", StreamEnd::Stopping),
        ("unknown", StreamEnd::Unknown(unknown())),
    ]
}

pub(super) fn from_owner() -> Vec<(String, FromOwner)> {
    let conversation = conversation();
    let replies = answers().into_iter().map(|(name, answer)| {
        (format!("reply-{name}"), FromOwner::Reply { rid: 4, result: Ok(answer) })
    });
    let ends = ends().into_iter().map(|(name, end)| (format!("end-{name}"), FromOwner::End(end)));
    let others = [
        ("reply-refused", FromOwner::Reply { rid: 4, result: Err(refusal()) }),
        ("feed", FromOwner::Feed { deliveries: vec![delivery()] }),
        ("lagged", FromOwner::Lagged { conversation }),
        ("moved", FromOwner::Moved { rid: Some(6), conversation, placement: home() }),
        ("unsupported", FromOwner::Unsupported { kind: 99 }),
        ("unknown", FromOwner::Unknown(unknown())),
    ];
    let others = others.map(|(name, frame)| (name.to_owned(), frame));
    replies.chain(ends).chain(others).collect()
}

pub(super) fn node_requests() -> Vec<(&'static str, NodeRequest)> {
    vec![
        ("handover", NodeRequest::Handover { rid: 5, shard: shard() }),
        ("unknown", NodeRequest::Unknown(unknown())),
    ]
}

pub(super) fn node_replies() -> Vec<(&'static str, NodeReply)> {
    vec![
        ("done", NodeReply::Done { rid: 5, result: Ok(()) }),
        ("refused", NodeReply::Done { rid: 5, result: Err(refusal()) }),
        ("unsupported", NodeReply::Unsupported { kind: 99 }),
        ("unknown", NodeReply::Unknown(unknown())),
    ]
}
