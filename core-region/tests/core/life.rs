//! A message's life at its owner, and what may not be asked.

use bytes::Bytes;
use wire::change::{Event, Role};
use wire::codec::Unknown;
use wire::command::{Answer, Command, MeshCommand, Query, UserCommand};
use wire::stream::{FromOwner, ToOwner};
use wire::{ConversationKind, ErrorCode};

use super::edge::{Stream, ack, actor, newest, send, seq_and_id, user};
use super::harness::{Harness, ONE, node};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_is_committed_then_acknowledged_then_fed_and_can_be_read() {
    let mut site = Harness::start(ONE).await;
    let edge = site.edge(&node("r1/edge/1"));
    let ann = actor("demo", "ann");
    let id = edge.group_in(site.shard(1, 0));
    let view = edge.create(&ann, id, &["bob"]).await;
    assert_eq!((view.head_seq, view.head_ver, view.members.len()), (0, 1, 2));

    let mut stream = edge.open(id.shard).await;
    let watching = stream.watch(id, None, &["ann", "bob", "eve"]).await.unwrap().unwrap();
    let members = vec![user("ann"), user("bob")];
    let is_told = |answer: &Answer| matches!(answer, Answer::Watching { head_ver: 1, head_seq: 0, members: told, head_epoch: Some(_) } if *told == members);
    assert!(is_told(&watching), "{watching:?}");

    let first = ack(stream.command(&ann, id, send("m-1", "hello")).await.unwrap());
    assert_eq!((first.seq, first.duplicate), (1, false));
    let fed = stream.deliveries(1).await;
    assert_eq!((fed[0].change.ver, seq_and_id(&fed[0].change)), (2, (1, "m-1".into())));
    assert_eq!((fed[0].change.epoch, fed[0].change.ts_ms), (first.epoch, first.ts_ms));

    let bob = actor("demo", "bob");
    let history = stream.query(Some(&bob), id, newest(10)).await.unwrap().unwrap();
    let Answer::History { messages, head_seq, head_ver, has_more } = history else {
        panic!("{history:?}")
    };
    assert_eq!(
        (messages, head_seq, head_ver, has_more),
        (vec![fed[0].change.clone()], 1, 2, false)
    );

    let command =
        UserCommand::ChangeMembers { add: vec![user("cem")], remove: vec![], roles: vec![] };
    let answer = stream.command(&ann, id, command).await.unwrap().unwrap();
    let fed = stream.deliveries(1).await;
    let outline = fed[0].view.clone().expect("a change of members comes with the view");
    assert_eq!((outline.members.len(), outline.member_count), (0, 3), "and without its members");
    let Answer::View { view, created: false } = answer else { panic!("{answer:?}") };
    assert_eq!(
        view.members.iter().map(|m| (m.user_id.clone(), m.role, m.joined_seq)).collect::<Vec<_>>(),
        vec![
            (user("ann"), Role::Owner, 1),
            (user("bob"), Role::Member, 1),
            (user("cem"), Role::Member, 2),
        ]
    );
    let changes =
        stream.query(None, id, Query::Changes { after_ver: 1, limit: 50 }).await.unwrap().unwrap();
    let Answer::Changes { changes, head_ver: 3 } = changes else { panic!("{changes:?}") };
    assert_eq!(changes.iter().map(|delivery| delivery.change.ver).collect::<Vec<_>>(), [2, 3]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_send_again_is_the_same_message_and_another_body_is_refused() {
    let mut site = Harness::start(ONE).await;
    let edge = site.edge(&node("r1/edge/1"));
    let ann = actor("demo", "ann");
    let id = edge.group_in(site.shard(1, 1));
    edge.create(&ann, id, &[]).await;
    let mut stream = edge.open(id.shard).await;
    // All in flight at once: the copies are decided on top of what is not committed yet.
    for _ in 0..5 {
        stream.start(&ann, id, send("m-1", "hello")).await;
    }
    stream.start(&ann, id, send("m-1", "something else")).await;
    stream.flush().await;
    let answers: Vec<_> = stream.answers(6).await.into_values().collect();
    let acks: Vec<_> = answers[..5].iter().cloned().map(ack).collect();
    assert!(acks.iter().all(|ack| ack.seq == 1), "{acks:?}");
    assert_eq!(acks.iter().filter(|ack| !ack.duplicate).count(), 1);
    assert_eq!(answers[5].clone().unwrap_err().code, ErrorCode::ClientMsgIdReused);
    assert_eq!(edge.history(&ann, id).await, [(1, "m-1".into())]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_burst_in_many_conversations_is_dense_in_each() {
    const CONVERSATIONS: usize = 8;
    const SENDS: usize = 250;
    let mut site = Harness::start(ONE).await;
    let edge = site.edge(&node("r1/edge/1"));
    let ann = actor("demo", "ann");
    let shard = site.shard(1, 0);
    let mut ids = Vec::new();
    for _ in 0..CONVERSATIONS {
        let id = edge.group_in(shard);
        edge.create(&ann, id, &[]).await;
        ids.push(id);
    }
    let mut stream = edge.open(shard).await;
    let mut sent = Vec::new();
    for n in 0..SENDS {
        for id in &ids {
            sent.push((stream.start(&ann, *id, send(&format!("m-{n}"), "x")).await, n as u64 + 1));
        }
        stream.flush().await;
    }
    let answers = stream.answers(sent.len()).await;
    for (rid, seq) in sent {
        assert_eq!(ack(answers[&rid].clone()).seq, seq);
    }
    for id in ids {
        let history = edge.history(&ann, id).await;
        assert_eq!(history.last(), Some(&(SENDS as u64, format!("m-{}", SENDS - 1))));
        assert_eq!(history.len(), 200);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_not_ask_is_refused_and_garbage_closes_the_stream() {
    let mut site = Harness::start(ONE).await;
    let edge = site.edge(&node("r1/edge/1"));
    let (ann, eve) = (actor("demo", "ann"), actor("demo", "eve"));
    let id = edge.group_in(site.shard(1, 0));
    edge.create(&ann, id, &["bob"]).await;
    let mut stream = edge.open(id.shard).await;
    let mut code = async |who: &str, tenant: &str, query| {
        stream
            .query(Some(&actor(tenant, who)), id, query)
            .await
            .unwrap()
            .map_err(|refusal| refusal.code)
    };
    let view = || Query::View { members_after: None };
    assert_eq!(code("eve", "demo", view()).await, Err(ErrorCode::NotAMember));
    assert_eq!(code("eve", "demo", newest(1)).await, Err(ErrorCode::NotAMember));
    assert_eq!(
        code("ann", "other", view()).await,
        Err(ErrorCode::NotFound),
        "not even that it is there"
    );
    assert_eq!(code("ann", "nobody", view()).await, Err(ErrorCode::NotFound));
    assert!(matches!(
        code("ann", "demo", Query::Inbox { after: None, limit: 0 }).await,
        Err(ErrorCode::BadRequest)
    ));
    let refused = stream.command(&eve, id, send("m", "let me in")).await.unwrap().unwrap_err();
    assert_eq!(refused.code, ErrorCode::NotAMember);

    // Only a core may say who joined.
    let stream_of_ann = site.world.user_stream_id(&ann.tenant, &ann.user).unwrap();
    let note = MeshCommand::NoteLeft { conversation: id, at_ver: 9 };
    let mut own = edge.open(stream_of_ann.shard).await;
    assert_eq!(
        own.command(&ann, stream_of_ann, note).await.unwrap().unwrap_err().code,
        ErrorCode::Forbidden
    );
    // Nobody reads another's own stream.
    let inbox = Query::Inbox { after: None, limit: 0 };
    assert_eq!(
        own.query(Some(&eve), stream_of_ann, inbox).await.unwrap().unwrap_err().code,
        ErrorCode::NotFound
    );
    // Derived ids are what they say they are.
    let forged = wire::ConversationId { kind: ConversationKind::Direct, ..id };
    let direct = UserCommand::OpenDirect { with: user("bob") };
    assert_eq!(
        stream.command(&ann, forged, direct).await.unwrap().unwrap_err().code,
        ErrorCode::BadRequest
    );

    // What only a newer node knows is refused, and the stream lives on for everybody else.
    let unknown = || Unknown::new(4711, Bytes::from_static(b"of a newer node"));
    let refused = stream.command(&ann, id, Command::Unknown(unknown())).await.unwrap();
    assert_eq!(refused.unwrap_err().code, ErrorCode::UnknownType);
    let refused = stream.query(Some(&ann), id, Query::Unknown(unknown())).await.unwrap();
    assert_eq!(refused.unwrap_err().code, ErrorCode::UnknownType);

    // What a newer node may ask is answered, what no node asks closes the stream, and the next one
    // is served.
    stream.raw(ToOwner::Unknown(Unknown::new(4711, Bytes::new())).to_bytes()).await;
    assert_eq!(stream.next().await, Some(FromOwner::Unsupported { kind: 4711 }));
    stream.raw(Bytes::from_static(&[0, 1, 0, 255, 255])).await;
    assert_eq!(stream.next().await, None);
    assert_eq!(edge.send(&ann, id, "m-1", "still here").await.seq, 1);
    assert!(site.cores.values().all(|running| running.core.status().panicked.is_empty()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_never_outgrows_a_frame() {
    let mut site = Harness::start(ONE).await;
    let edge = site.edge(&node("r1/edge/1"));
    let ann = actor("demo", "ann");
    let id = edge.group_in(site.shard(1, 0));
    edge.create(&ann, id, &[]).await;
    let mut stream = edge.open(id.shard).await;
    let body = "x".repeat(wire::limits::BODY_BYTES);
    for n in 0..100 {
        stream.start(&ann, id, send(&format!("m-{n}"), &body)).await;
    }
    stream.flush().await;
    stream.answers(100).await;
    let page = async |stream: &mut Stream, before, after| {
        let query = Query::History { before, after, limit: 200 };
        match stream.query(Some(&ann), id, query).await.unwrap().unwrap() {
            Answer::History { messages, has_more, .. } => {
                let seqs: Vec<u64> = messages
                    .iter()
                    .map(|change| match &change.event {
                        Event::Message(message) => message.seq,
                        other => panic!("{other:?}"),
                    })
                    .collect();
                (seqs, has_more)
            }
            other => panic!("{other:?}"),
        }
    };
    let (newest, more) = page(&mut stream, None, None).await;
    assert_eq!((newest.last(), more), (Some(&100), true));
    let (older, _) = page(&mut stream, newest.first().copied(), None).await;
    assert_eq!(older.last().map(|seq| seq + 1), newest.first().copied(), "adjacent");
    let (oldest, more) = page(&mut stream, None, Some(0)).await;
    assert_eq!((oldest.first(), more), (Some(&1), true));
}
