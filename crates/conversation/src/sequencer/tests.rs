use std::sync::LazyLock;

use wire::change::Left;
use wire::codec::{Record as _, Unknown};
use wire::command::{Actor, Answer, Command, Draft, MeshCommand, UserCommand};
use wire::limits::{
    BODY_BYTES, DEDUPE_MS, GROUP_NAME_BYTES, MEMBERS_PER_PAGE, MENTIONS, META_BYTES,
};
use wire::message::{Body, Opaque, Sealed};
use wire::{ClientMsgId, Durability, RegionId, ShardId, Slot, ZoneId};

use super::*;
use crate::moving::DecisionContext;

const NOW: u64 = 1_700_000_000_000;
const REGION: RegionId = RegionId(2);

fn id(kind: ConversationKind, unique: [u8; 16]) -> ConversationId {
    let shard =
        ShardId { zone: ZoneId(1), home: RegionId(1), durability: Durability::MultiRegion, n: 0 };
    ConversationId { kind, shard, unique }
}

fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

fn actor(name: &str) -> Actor {
    Actor { tenant: TenantId::new("demo").unwrap(), user: user(name), device: None }
}

fn draft(name: &str, body: &str) -> Draft {
    Draft::text(ClientMsgId::new(name).unwrap(), body)
}

fn send(name: &str, body: &str) -> Command {
    UserCommand::Send(draft(name, body)).into()
}

fn at(epoch: u64, slot: u64) -> Position {
    Position { epoch: Epoch(epoch), slot: Slot(slot) }
}

static NEVER_FORKED: LazyLock<Starts> =
    LazyLock::new(|| [(Epoch(1), Slot(0))].into_iter().collect());

/// In the shard in which all are born.
fn moment(now_ms: u64, epoch: u64) -> DecisionContext<'static> {
    let shard = id(ConversationKind::Group, [0; 16]).shard;
    DecisionContext { now_ms, shard, epoch: Epoch(epoch), starts: &NEVER_FORKED }
}

/// Decides and applies, as an owner does.
fn run(conversation: &mut Conversation, by: &str, command: impl Into<Command>) -> Decision {
    let decision = conversation.decide(moment(NOW, 1), &actor(by), command, None);
    if let Decision::Commit(changes) = &decision {
        for change in changes {
            conversation.apply(change, at(1, change.ver)).unwrap();
        }
    }
    decision
}

fn code(decision: Decision) -> ErrorCode {
    match decision {
        Decision::Refuse(refusal) => refusal.code,
        other => panic!("not refused: {other:?}"),
    }
}

/// A group of `ann`, its owner, and `bob`.
fn group() -> Conversation {
    let mut group = Conversation::empty(id(ConversationKind::Group, [7; 16]));
    run(
        &mut group,
        "ann",
        UserCommand::CreateGroup { name: "tea".into(), members: vec![user("bob"), user("ann")] },
    );
    group
}

fn ack(decision: &Decision) -> Ack {
    match decision {
        Decision::Commit(changes) => match Outcome::of(changes.last().unwrap()) {
            Outcome::Ack(ack) => ack,
            other => panic!("not an ack: {other:?}"),
        },
        Decision::Already(Outcome::Ack(ack)) => ack.clone(),
        other => panic!("not an ack: {other:?}"),
    }
}

#[test]
fn a_group_begins_with_its_creator_as_owner() {
    let group = group();
    let view = group.view(REGION, None);
    assert_eq!((view.head_ver, view.head_seq, view.acting_region), (1, 0, REGION));
    assert_eq!(view.name.as_deref(), Some("tea"));
    let members: Vec<_> =
        view.members.iter().map(|m| (m.user_id.as_str(), m.role, m.joined_seq)).collect();
    assert_eq!(members, [("ann", Role::Owner, 1), ("bob", Role::Member, 1)]);
}

#[test]
fn creating_a_group_twice_is_one_creation() {
    let mut group = group();
    let again = || UserCommand::CreateGroup { name: "tea".into(), members: vec![] };
    assert_eq!(run(&mut group, "ann", again()), Decision::Already(Outcome::View { created: true }));
    assert_eq!(
        code(run(&mut group, "bob", again())),
        ErrorCode::NotFound,
        "nobody else's creation"
    );
    assert_eq!(group.head_ver(), 1);
}

#[test]
fn a_group_needs_a_name_and_few_enough_members() {
    let mut empty = Conversation::empty(id(ConversationKind::Group, [7; 16]));
    let mut create = |name: &str, members: usize| {
        let members = (0..members).map(|n| user(&format!("u{n}"))).collect();
        code(run(&mut empty, "ann", UserCommand::CreateGroup { name: name.into(), members }))
    };
    assert_eq!(create("", 0), ErrorCode::BadRequest);
    assert_eq!(create("tea\u{202e}aet", 0), ErrorCode::BadRequest);
    assert_eq!(create(&"x".repeat(GROUP_NAME_BYTES + 1), 0), ErrorCode::TooLarge);
    assert_eq!(create("tea", 1_001), ErrorCode::TooLarge);
    let mut direct = Conversation::empty(id(ConversationKind::Direct, [7; 16]));
    let command = UserCommand::CreateGroup { name: "tea".into(), members: vec![] };
    assert_eq!(code(run(&mut direct, "ann", command)), ErrorCode::BadRequest);
}

#[test]
fn both_sides_of_a_direct_conversation_open_the_same_one() {
    let tenant = actor("ann").tenant;
    let key = ConversationId::direct_key(&tenant, &user("ann"), &user("bob"));
    let mut direct = Conversation::empty(id(ConversationKind::Direct, key));
    let open = |with: &str| UserCommand::OpenDirect { with: user(with) };
    assert_eq!(code(run(&mut direct, "ann", open("ann"))), ErrorCode::BadRequest);
    assert_eq!(code(run(&mut direct, "ann", open("cat"))), ErrorCode::BadRequest, "another's key");
    assert!(matches!(run(&mut direct, "bob", open("ann")), Decision::Commit(_)));
    assert_eq!(
        run(&mut direct, "ann", open("bob")),
        Decision::Already(Outcome::View { created: false })
    );
    let leave =
        UserCommand::ChangeMembers { add: vec![], remove: vec![user("ann")], roles: vec![] };
    assert_eq!(
        code(run(&mut direct, "ann", leave)),
        ErrorCode::BadRequest,
        "its members never change"
    );
    assert_eq!(ack(&run(&mut direct, "ann", send("1", "hi"))).seq, 1);
    assert_eq!(code(run(&mut direct, "cat", send("1", "hi"))), ErrorCode::NotAMember);
}

#[test]
fn seq_and_ver_are_dense() {
    let mut group = group();
    for n in 1..=3u64 {
        let decision = run(&mut group, "bob", send(&format!("m{n}"), "hi"));
        assert_eq!(ack(&decision), Ack { seq: n, epoch: Epoch(1), ts_ms: NOW, duplicate: false });
        assert_eq!(group.head_ver(), n + 1);
    }
    let add = UserCommand::ChangeMembers { add: vec![user("cat")], remove: vec![], roles: vec![] };
    run(&mut group, "ann", add);
    assert_eq!((group.head_seq(), group.head_ver()), (3, 5));
    assert_eq!(group.members()[&user("cat")].joined_seq, 4);
    assert_eq!(ack(&run(&mut group, "cat", send("c", "hi"))).seq, 4);
}

#[test]
fn a_retry_gets_its_old_seq_and_another_body_is_refused() {
    let mut group = group();
    run(&mut group, "bob", send("m1", "hi"));
    run(&mut group, "ann", send("m1", "hi"));
    let again = run(&mut group, "bob", send("m1", "hi"));
    assert_eq!(ack(&again), Ack { seq: 1, epoch: Epoch(1), ts_ms: NOW, duplicate: true });
    assert_eq!(code(run(&mut group, "bob", send("m1", "ho"))), ErrorCode::ClientMsgIdReused);
    let other = UserCommand::Send(Draft { reply_to: Some(1), ..draft("m1", "hi") });
    assert_eq!(code(run(&mut group, "bob", other)), ErrorCode::ClientMsgIdReused);
    assert_eq!(group.head_seq(), 2, "the same id of another sender is another message");
}

#[test]
fn a_retry_across_takeover_keeps_its_seq() {
    let mut group = group();
    run(&mut group, "bob", send("m1", "hi"));
    let sent = Seen {
        seq: 1,
        epoch: Epoch(1),
        ts_ms: NOW,
        fingerprint: crate::dedupe::fingerprint(&draft("m1", "hi")),
        at: at(1, 2),
    };
    // The next owner has the conversation from its projection, and the dedupe row with it.
    let mut loaded = Conversation::load(group.id(), rows_of(&group));
    let retry = send("m1", "hi");
    assert!(loaded.needs_dedupe_lookup(&actor("bob"), &retry));
    let decision = loaded.decide(moment(NOW + 5, 2), &actor("bob"), retry, Some(&sent));
    assert_eq!(ack(&decision), Ack { seq: 1, epoch: Epoch(1), ts_ms: NOW, duplicate: true });
    // One that was never committed is appended once, after the head.
    let decision = loaded.decide(moment(NOW + 5, 2), &actor("bob"), send("m2", "hi"), None);
    assert_eq!(ack(&decision), Ack { seq: 2, epoch: Epoch(2), ts_ms: NOW + 5, duplicate: false });
    let Decision::Commit(changes) = decision else { unreachable!() };
    loaded.apply(&changes[0], at(2, 3)).unwrap();
    assert!(!loaded.needs_dedupe_lookup(&actor("bob"), &send("m2", "hi")), "now it is in memory");
}

/// What two regions have of a group: the same up to a fork, then each its own.
fn forked() -> (Conversation, Conversation) {
    let mut away = group();
    run(&mut away, "ann", send("before", "kept"));
    (away.clone(), away)
}

/// Offers what one region has to the other, as the owner there does.
fn recover(into: &mut Conversation, stranded: Decision, first_seq: u64) -> Vec<Change> {
    let Decision::Commit(changes) = stranded else { panic!("nothing is stranded: {stranded:?}") };
    let offered = changes
        .iter()
        .filter_map(|change| into.recover(moment(NOW + 9, 2), change, None, first_seq));
    let offered: Vec<Change> = offered.collect();
    for change in &offered {
        into.apply(change, at(2, 100 + change.ver)).unwrap();
    }
    offered
}

#[test]
fn a_stranded_message_comes_back_once_with_a_new_seq_and_says_so() {
    let (mut home, mut away) = forked();
    let lost = run(&mut home, "bob", send("m1", "lost"));
    run(&mut away, "ann", send("m2", "meanwhile"));
    let back = recover(&mut away, lost.clone(), 2);
    let Event::Message(message) = &back[0].event else { panic!("{back:?}") };
    assert_eq!(
        (message.seq, message.recovered, message.draft.body.text()),
        (3, true, Some("lost"))
    );
    assert_eq!((back[0].epoch, back[0].ts_ms), (Epoch(2), NOW + 9));
    assert_eq!(recover(&mut away, lost, 2), [], "the salvage of the next owner finds it");
    let retry = away.decide(moment(NOW, 2), &actor("bob"), send("m1", "lost"), None);
    assert_eq!((ack(&retry).seq, ack(&retry).duplicate), (3, true), "and so does its sender");
}

#[test]
fn fields_of_a_newer_node_stay_in_a_stranded_message() {
    let mut fields = Vec::new();
    draft("m1", "lost").write_fields(&mut fields);
    fields.extend_from_slice(b"of a newer node");
    let newer = Draft::read_fields(&fields).unwrap();
    let (mut home, mut away) = forked();
    let lost = run(&mut home, "bob", UserCommand::Send(newer.clone()));
    let back = recover(&mut away, lost, 2);
    assert_eq!(back[0].event.message().unwrap().draft, newer);
    let without = run(&mut home, "bob", send("m1", "lost"));
    assert_eq!(code(without), ErrorCode::ClientMsgIdReused);
}

#[test]
fn a_stranded_message_that_was_sent_again_meanwhile_stays_where_it_is() {
    let (mut home, mut away) = forked();
    let lost = run(&mut home, "bob", send("m1", "hi"));
    run(&mut away, "bob", send("m1", "hi"));
    assert_eq!(recover(&mut away, lost.clone(), 2), []);
    // Memory forgot it; the store did not.
    let loaded = Conversation::load(away.id(), rows_of(&away));
    let Decision::Commit(changes) = lost else { unreachable!() };
    assert!(loaded.needs_dedupe_lookup_to_recover(&changes[0]));
    let seen = *away.dedupe.find(&user("bob"), &ClientMsgId::new("m1").unwrap()).unwrap();
    assert_eq!(loaded.recover(moment(NOW, 2), &changes[0], Some(&seen), 2), None);
}

#[test]
fn what_refers_to_a_stranded_message_by_its_old_number_refers_to_nothing() {
    let (mut home, mut away) = forked();
    let first = run(&mut home, "bob", send("m1", "lost"));
    let reply = Draft { reply_to: Some(2), thread: Some(1), ..draft("m2", "an answer") };
    let reply = run(&mut home, "ann", UserCommand::Send(reply));
    recover(&mut away, first, 2);
    let back = recover(&mut away, reply, 2);
    let Event::Message(message) = &back[0].event else { panic!("{back:?}") };
    assert_eq!(
        (message.draft.reply_to, message.draft.thread),
        (None, Some(1)),
        "seq 1 is from before the fork"
    );
}

#[test]
fn who_left_meanwhile_still_gets_his_message_back() {
    let (mut home, mut away) = forked();
    let lost = run(&mut home, "bob", send("m1", "lost"));
    run(
        &mut away,
        "ann",
        UserCommand::ChangeMembers { add: vec![], remove: vec![user("bob")], roles: vec![] },
    );
    assert_eq!(recover(&mut away, lost, 2).len(), 1);
}

#[test]
fn a_stranded_change_of_members_is_wished_again() {
    let (mut home, mut away) = forked();
    let remove = || UserCommand::ChangeMembers {
        add: vec![user("dan")],
        remove: vec![user("bob")],
        roles: vec![],
    };
    let lost = run(&mut home, "ann", remove());
    let back = recover(&mut away, lost.clone(), 2);
    assert_eq!(back.len(), 1);
    assert!(
        away.members().contains_key(&user("dan")) && !away.members().contains_key(&user("bob"))
    );
    assert_eq!(recover(&mut away, lost, 2), [], "it is so already");
}

#[test]
fn a_group_that_was_founded_in_the_lost_region_comes_back_with_what_was_said_in_it() {
    let home = group();
    let mut away = Conversation::empty(home.id());
    let founded = Conversation::empty(home.id()).decide(
        moment(NOW, 1),
        &actor("ann"),
        UserCommand::CreateGroup { name: "team".into(), members: vec![user("bob")] },
        None,
    );
    let said = run(&mut home.clone(), "bob", send("m1", "first"));
    assert_eq!(recover(&mut away, said.clone(), 1), [], "not before it is there");
    assert_eq!(recover(&mut away, founded.clone(), 1).len(), 1);
    assert_eq!(recover(&mut away, said, 1).len(), 1);
    assert_eq!(recover(&mut away, founded, 1), []);
    assert_eq!(away.head_seq(), 1);
}

/// Of every row.
const AT: Position = Position { epoch: Epoch(1), slot: Slot(3) };

fn rows_of(conversation: &Conversation) -> LoadedConversation {
    let id = conversation.id();
    let facts = conversation.facts().unwrap();
    LoadedConversation {
        facts: Some(FactsRow {
            conversation: id,
            tenant: facts.tenant.clone(),
            name: facts.name.clone(),
            by: facts.by.clone(),
            ts_ms: NOW,
            at: AT,
        }),
        head: Some(HeadRow {
            conversation: id,
            head_ver: conversation.head_ver(),
            epoch: Epoch(1),
            ts_ms: NOW,
            at: AT,
        }),
        last_message: Some(LastMessageRow {
            conversation: id,
            seq: conversation.head_seq(),
            ts_ms: NOW,
            at: AT,
        }),
        members: (conversation.members().iter())
            .map(|(user, member)| MemberRow {
                conversation: id,
                user: user.clone(),
                joined_seq: member.joined_seq,
                gone: false,
                at: AT,
            })
            .collect(),
        roles: (conversation.members().iter())
            .map(|(user, member)| RoleRow {
                conversation: id,
                user: user.clone(),
                role: member.role,
                at: AT,
            })
            .collect(),
        inbox: vec![],
        placement: None,
    }
}

#[test]
fn a_client_msg_id_is_free_again_after_thirty_days() {
    let mut group = group();
    run(&mut group, "bob", send("m1", "hi"));
    let decide = |now| group.decide(moment(now, 1), &actor("bob"), send("m1", "hi"), None);
    assert!(ack(&decide(NOW + DEDUPE_MS)).duplicate);
    assert_eq!(ack(&decide(NOW + DEDUPE_MS + 1)).seq, 2);
}

#[test]
fn who_was_removed_still_learns_what_became_of_his_message() {
    let mut group = group();
    run(&mut group, "bob", send("m1", "hi"));
    run(
        &mut group,
        "ann",
        UserCommand::ChangeMembers { add: vec![], remove: vec![user("bob")], roles: vec![] },
    );
    assert!(ack(&run(&mut group, "bob", send("m1", "hi"))).duplicate);
    assert_eq!(code(run(&mut group, "bob", send("m2", "hi"))), ErrorCode::NotAMember);
}

#[test]
fn strangers_and_other_tenants_learn_nothing() {
    let mut group = group();
    assert_eq!(code(run(&mut group, "eve", send("m1", "hi"))), ErrorCode::NotAMember);
    let elsewhere = Actor { tenant: TenantId::new("other").unwrap(), ..actor("ann") };
    let commands = [
        send("m1", "hi"),
        UserCommand::CreateGroup { name: "tea".into(), members: vec![] }.into(),
        UserCommand::ChangeMembers { add: vec![user("eve")], remove: vec![], roles: vec![] }.into(),
    ];
    for command in commands {
        assert!(!group.needs_dedupe_lookup(&elsewhere, &command));
        assert_eq!(
            code(group.decide(moment(NOW, 1), &elsewhere, command, None)),
            ErrorCode::NotFound
        );
    }
    assert_eq!(
        group.readable_by(&elsewhere.tenant, &user("ann")).unwrap_err().code,
        ErrorCode::NotFound
    );
    assert_eq!(
        group.readable_by(&actor("eve").tenant, &user("eve")).unwrap_err().code,
        ErrorCode::NotAMember
    );
    assert!(group.readable_by(&actor("bob").tenant, &user("bob")).is_ok());
    let nothing = Conversation::empty(group.id());
    assert_eq!(
        nothing.readable_by(&actor("bob").tenant, &user("bob")).unwrap_err().code,
        ErrorCode::NotFound
    );
    assert_eq!(
        code(nothing.decide(moment(NOW, 1), &actor("ann"), send("m", "x"), None)),
        ErrorCode::NotFound
    );
}

#[test]
fn a_draft_has_its_limits() {
    let mut group = group();
    run(&mut group, "bob", send("m1", "hi"));
    let ok = draft("m2", "hi");
    let opaque = |len| Body::Opaque(Opaque { scheme: "mls".into(), content: vec![7; len].into() });
    let (nonce, ciphertext) = (vec![1].into(), vec![2].into());
    let sealed = Sealed { key_id: "k".into(), nonce, ciphertext };
    let newer = Unknown::new(4711, &b"of a newer node"[..]);
    let cases = [
        (Draft { body: "".into(), ..ok.clone() }, ErrorCode::BadRequest),
        (Draft { body: "x".repeat(BODY_BYTES + 1).into(), ..ok.clone() }, ErrorCode::TooLarge),
        (Draft { body: opaque(0), ..ok.clone() }, ErrorCode::BadRequest),
        (Draft { body: opaque(BODY_BYTES + 1), ..ok.clone() }, ErrorCode::TooLarge),
        (Draft { body: Body::Sealed(sealed), ..ok.clone() }, ErrorCode::BadRequest),
        (Draft { body: Body::Unknown(newer), ..ok.clone() }, ErrorCode::UnknownType),
        (Draft { meta: Some("x".repeat(META_BYTES + 1)), ..ok.clone() }, ErrorCode::TooLarge),
        (Draft { mentions: vec![user("ann"); MENTIONS + 1], ..ok.clone() }, ErrorCode::TooLarge),
        (Draft { reply_to: Some(0), ..ok.clone() }, ErrorCode::BadRequest),
        (Draft { reply_to: Some(2), ..ok.clone() }, ErrorCode::BadRequest),
        (Draft { thread: Some(0), ..ok.clone() }, ErrorCode::BadRequest),
        (Draft { thread: Some(u64::MAX), ..ok.clone() }, ErrorCode::BadRequest),
    ];
    for (draft, expected) in cases {
        assert_eq!(code(run(&mut group, "bob", UserCommand::Send(draft))), expected);
    }
    let largest = Draft {
        body: "x".repeat(BODY_BYTES).into(),
        meta: Some("x".repeat(META_BYTES)),
        mentions: vec![user("ann"); MENTIONS],
        reply_to: Some(1),
        thread: Some(1),
        ..ok
    };
    assert_eq!(ack(&run(&mut group, "bob", UserCommand::Send(largest))).seq, 2);
}

#[test]
fn epoch_and_time_never_fall() {
    let group = group();
    let decision = group.decide(moment(NOW - 500, 0), &actor("bob"), send("m1", "hi"), None);
    assert_eq!(ack(&decision), Ack { seq: 1, epoch: Epoch(1), ts_ms: NOW, duplicate: false });
}

#[test]
fn a_gap_is_refused_and_a_repetition_is_nothing() {
    let mut ours = group();
    let Decision::Commit(changes) = run(&mut ours, "bob", send("m1", "hi")) else { unreachable!() };
    let mut theirs = Conversation::empty(ours.id());
    let gap = Gap { conversation: ours.id(), head: 0, found: 2 };
    assert_eq!(theirs.apply(&changes[0], at(1, 2)), Err(gap));
    assert_eq!(theirs.head_ver(), 0);
    assert_eq!(ours.apply(&changes[0], at(1, 2)), Ok(()));
    assert_eq!((ours.head_seq(), ours.head_ver()), (1, 2));
}

#[test]
fn a_change_of_a_kind_not_known_yet_still_counts() {
    let mut group = group();
    let event = Event::Unknown(Unknown::new(999, bytes::Bytes::from_static(b"?")));
    let change = Change { conversation: group.id(), ver: 2, epoch: Epoch(3), ts_ms: NOW, event };
    group.apply(&change, at(3, 0)).unwrap();
    assert_eq!((group.head_ver(), group.head_seq(), group.last_epoch()), (2, 0, Epoch(3)));
}

fn stream() -> Conversation {
    let key = ConversationId::user_key(&actor("ann").tenant, &user("ann"));
    Conversation::empty(id(ConversationKind::User, key))
}

fn joined(n: u8, at_ver: u64) -> MeshCommand {
    let conversation = id(ConversationKind::Group, [n; 16]);
    MeshCommand::NoteJoined {
        conversation,
        name: Some("tea".into()),
        joined_seq: at_ver * 10,
        at_ver,
    }
}

fn left(n: u8, at_ver: u64) -> MeshCommand {
    MeshCommand::NoteLeft { conversation: id(ConversationKind::Group, [n; 16]), at_ver }
}

#[test]
fn the_first_note_founds_a_users_own_stream() {
    let mut stream = stream();
    assert!(
        stream.readable_by(&actor("ann").tenant, &user("ann")).is_ok(),
        "theirs, even before anything is in it"
    );
    assert_eq!(
        stream.readable_by(&actor("bob").tenant, &user("bob")).unwrap_err().code,
        ErrorCode::NotFound
    );
    let Decision::Commit(changes) = run(&mut stream, "ann", joined(1, 1)) else {
        panic!("not committed")
    };
    assert!(matches!(changes[0].event, Event::Created(_)) && changes[0].ver == 1);
    assert!(matches!(changes[1].event, Event::Joined(_)) && changes[1].ver == 2);
    assert_eq!(Outcome::of(&changes[1]), Outcome::Noted);
    let Decision::Commit(changes) = run(&mut stream, "ann", joined(2, 1)) else {
        panic!("not committed")
    };
    assert_eq!(changes.len(), 1);
}

#[test]
fn notes_count_by_at_ver_and_not_by_arrival() {
    let mut stream = stream();
    let noted = Decision::Already(Outcome::Noted);
    run(&mut stream, "ann", left(1, 5));
    assert_eq!(run(&mut stream, "ann", joined(1, 3)), noted, "an older note");
    assert_eq!(run(&mut stream, "ann", left(1, 5)), noted, "the same note");
    assert_eq!(stream.inbox(None, 0).0, []);
    run(&mut stream, "ann", joined(1, 9));
    let (lines, more) = stream.inbox(None, 0);
    assert_eq!((lines.len(), lines[0].at_ver, lines[0].joined_seq, more), (1, 9, 90, false));
    assert_eq!(stream.head_ver(), 3);
}

#[test]
fn a_users_own_stream_takes_notes_about_him_only_and_no_messages() {
    let mut stream = stream();
    run(&mut stream, "ann", joined(1, 1));
    assert_eq!(code(run(&mut stream, "ann", send("m", "x"))), ErrorCode::BadRequest);
    assert_eq!(code(run(&mut stream, "bob", send("m", "x"))), ErrorCode::NotFound);
    assert_eq!(code(run(&mut stream, "bob", joined(2, 1))), ErrorCode::NotFound);
    assert_eq!(code(run(&mut group(), "ann", joined(2, 1))), ErrorCode::BadRequest);
}

#[test]
fn the_inbox_is_paged_in_the_order_of_ids() {
    let mut stream = stream();
    for n in [3, 1, 4, 2] {
        run(&mut stream, "ann", joined(n, 1));
    }
    run(&mut stream, "ann", left(2, 2));
    let (first, more) = stream.inbox(None, 2);
    assert!(more && first.len() == 2);
    let (rest, more) = stream.inbox(Some(&first[1].conversation), 2);
    assert!(!more);
    let seen: Vec<u8> = first.iter().chain(&rest).map(|line| line.conversation.unique[0]).collect();
    assert_eq!(seen, [1, 3, 4]);
}

#[test]
fn a_view_is_paged_by_user() {
    let mut big = Conversation::empty(id(ConversationKind::Group, [9; 16]));
    let members = (0..MEMBERS_PER_PAGE).map(|n| user(&format!("u{n:05}"))).collect();
    run(&mut big, "ann", UserCommand::CreateGroup { name: "all".into(), members });
    let Answer::View { view, created: true } = big.answer(Outcome::View { created: true }, REGION)
    else {
        panic!()
    };
    assert_eq!(view.members.len(), MEMBERS_PER_PAGE);
    let next = view.members_next.unwrap();
    let rest = big.view(REGION, Some(&next));
    assert_eq!((rest.members.len(), rest.members_next), (1, None));
}

#[test]
fn a_loaded_stream_remembers_what_was_left() {
    let mut stream = stream();
    run(&mut stream, "ann", joined(1, 1));
    let conversation = id(ConversationKind::Group, [1; 16]);
    let rows = LoadedConversation {
        inbox: vec![InboxRow {
            stream: stream.id(),
            conversation,
            name: None,
            joined_seq: 0,
            at_ver: 4,
            left: true,
            at: AT,
        }],
        ..rows_of(&stream)
    };
    let mut loaded = Conversation::load(stream.id(), rows);
    assert_eq!(run(&mut loaded, "ann", joined(1, 2)), Decision::Already(Outcome::Noted));
    assert!(matches!(run(&mut loaded, "ann", joined(1, 5)), Decision::Commit(_)));
    let change = Event::Left(Left { conversation, at_ver: 6 });
    let change =
        Change { conversation: loaded.id(), ver: 99, epoch: Epoch(1), ts_ms: 0, event: change };
    assert!(loaded.apply(&change, at(1, 9)).is_err());
}

#[test]
fn what_was_lost_with_a_region_is_not_believed() {
    let cut = Starts::from_iter([(Epoch(1), Slot(0)), (Epoch(2), Slot(3))]);
    let rows = rows_of(&group());
    let id = group().id();
    assert!(rows.counts(id, &NEVER_FORKED));
    assert!(!rows.counts(id, &cut), "slot 3 is the later term's");
    let old = rows.head.map(|row| HeadRow { at: Position::default(), ..row });
    assert!(
        LoadedConversation { head: old, ..LoadedConversation::default() }.counts(id, &cut),
        "it does not say"
    );
    let superseded = Starts::from_iter([(Epoch(0), Slot(0))]);
    assert!(rows.counts(id, &superseded), "a later term's: what is over is the reader's own");
    // The group counts; the second was said in the later term in place of a lost one; the third is
    // lost.
    let mut whole = group();
    let mut said = |name: &str| match run(&mut whole, "ann", send(name, "x")) {
        Decision::Commit(mut changes) => changes.remove(0),
        other => panic!("{other:?}"),
    };
    let (second, third) = (said("m-1"), said("m-2"));
    let second = Change { epoch: Epoch(2), ..second };
    let mut replayed = group();
    let known = BTreeMap::from([(id.shard, cut)]);
    assert_eq!(
        replayed.replay(&[(at(2, 3), second.clone().into()), (at(1, 4), third.into())], &known),
        Replayed::Cut
    );
    assert_eq!((replayed.head_ver(), replayed.head_seq(), replayed.last_epoch()), (2, 1, Epoch(2)));
    assert_eq!(
        replayed.replay(&[(at(2, 3), second.into())], &known),
        Replayed::All,
        "it has that already"
    );
}
