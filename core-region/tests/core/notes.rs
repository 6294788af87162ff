//! The durable consumer that tells users' own streams where they are members.

use wire::command::{Answer, InboxLine, Query, UserCommand};
use wire::{ConversationId, Durability};

use super::edge::{Edge, actor, user};
use super::harness::{Harness, ONE, THREE, node};

async fn inbox(edge: &Edge, tenant: &str, name: &str, limit: u16) -> Vec<InboxLine> {
    let who = actor(tenant, name);
    let stream = edge.world.user_stream_id(&who.tenant, &who.user).unwrap();
    match edge.query(&who, stream, Query::Inbox { after: None, limit }).await.unwrap() {
        Answer::Inbox { lines, .. } => lines,
        other => panic!("{other:?}"),
    }
}

pub(crate) async fn until_in(
    edge: &Edge,
    tenant: &str,
    name: &str,
    id: ConversationId,
    is_in: bool,
) {
    let began = std::time::Instant::now();
    while inbox(edge, tenant, name, 0).await.iter().any(|line| line.conversation == id) != is_in {
        assert!(began.elapsed() < super::harness::DEADLINE, "{name} was not told");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_find_their_conversations_in_their_inbox() {
    let mut site = Harness::start(ONE).await;
    let edge = site.edge(&node("r1/edge/1"));
    let ann = actor("demo", "ann");
    let id = edge.group_in(site.shard(1, 0));
    edge.create(&ann, id, &["bob", "cem"]).await;
    edge.send(&ann, id, "m-1", "hello").await;
    for name in ["ann", "bob", "cem"] {
        until_in(&edge, "demo", name, id, true).await;
    }
    // The head of another shard's conversation shows in an inbox a moment after the ack.
    let began = std::time::Instant::now();
    let mut lines = inbox(&edge, "demo", "bob", 50).await;
    while lines[0].head_seq < 1 && began.elapsed() < super::harness::DEADLINE {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        lines = inbox(&edge, "demo", "bob", 50).await;
    }
    let [line] = &lines[..] else { panic!("{lines:?}") };
    assert_eq!(
        (line.at_ver, line.joined_seq, line.head_seq, line.name.as_deref()),
        (1, 1, 1, Some("g"))
    );
    let read = inbox(&edge, "demo", "ann", 50).await[0].read_seq;
    assert_eq!((read, line.read_seq), (1, 0), "own sends are read");

    let command = UserCommand::ChangeMembers {
        add: vec![user("dan")],
        remove: vec![user("bob")],
        roles: vec![],
    };
    edge.ask(&ann, id, command).await.unwrap();
    until_in(&edge, "demo", "bob", id, false).await;
    until_in(&edge, "demo", "dan", id, true).await;

    // Both open the same direct conversation at the same moment.
    let (a, b) = (actor("demo", "ann"), actor("demo", "bob"));
    let direct = site.world.direct_id(&a.tenant, &a.user, &b.user).unwrap();
    let (from_a, from_b) = tokio::join!(
        edge.ask(&a, direct, UserCommand::OpenDirect { with: b.user.clone() }),
        edge.ask(&b, direct, UserCommand::OpenDirect { with: a.user.clone() }),
    );
    let created = |answer| match answer {
        Ok(Answer::View { view, created }) => (view.conversation, created),
        other => panic!("{other:?}"),
    };
    let (from_a, from_b) = (created(from_a), created(from_b));
    assert_eq!((from_a.0, from_b.0), (direct, direct));
    assert!(from_a.1 ^ from_b.1, "created once");
    until_in(&edge, "demo", "bob", direct, true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_note_to_a_home_that_is_down_arrives_when_it_is_back_though_its_sender_has_died() {
    let mut site = Harness::empty(THREE);
    let (one, two, three) = (node("r1/core/1"), node("r2/core/1"), node("r3/core/1"));
    site.add(&one);
    let edge = site.edge(&node("r1/edge/1"));
    // A single-region user whose own stream is at home in region 2, which is down; and one in
    // region 1.
    let at_home_in = |region: u16| {
        let mut names = (0..).map(|n| format!("user-{n}"));
        let home = |name: &String| {
            site.world
                .user_stream_id(&actor("local", name).tenant, &user(name))
                .unwrap()
                .shard
                .home
                .0
                == region
        };
        names.find(home).unwrap()
    };
    let (far, near) = (at_home_in(2), at_home_in(1));
    let shard = *site
        .world
        .shards_homed_in(wire::RegionId(1))
        .iter()
        .find(|shard| shard.durability == Durability::Region)
        .unwrap();
    let id = edge.group_in(shard);
    edge.create(&actor("local", "ann"), id, &[&far, &near]).await;
    until_in(&edge, "local", &near, id, true).await;

    site.kill(&one);
    site.add(&one);
    site.add(&two);
    site.add(&three);
    let edge = site.edge(&node("r2/edge/1"));
    until_in(&edge, "local", &far, id, true).await;
    until_in(&edge, "local", &near, id, true).await;
}
