//! Class `region`: a region is lost, failed over, and comes back.

use std::time::{Duration, SystemTime};

use conversation::log::LogFrame;
use conversation::projection;
use conversation::shard::{ClockError, Timing};
use hearth_core_region::{FailoverError, Limits};
use store::Mark;
use wire::change::{Change, Event, Home, MembersChanged, Message, MovedOut, Role, Tenure};
use wire::command::{Answer, Draft};
use wire::{
    ClientMsgId, ConversationId, Epoch, ErrorCode, NodeId, Position, RegionId, ShardId, Slot,
};

use super::edge::{Edge, ack, actor, newest, send, user, vers};
use super::harness::{DEADLINE, Harness, THREE, eventually, node};
use super::moves::{asked_by, moved};

const HOME: RegionId = RegionId(1);
const AWAY: RegionId = RegionId(2);
const FAR: RegionId = RegionId(3);

/// Leases that hold for two seconds.
fn limits() -> Limits {
    let clocks = ClockError { rate_ppm_max: 10_000, granularity: Duration::from_millis(1) };
    let lease = Timing::new(Duration::from_secs(2), Duration::from_millis(100), clocks).unwrap();
    Limits { lease, committed_every: Duration::from_millis(20), ..Limits::default() }
}

fn add(site: &mut Harness, core: &NodeId) {
    let store = site.store(core.region);
    site.add_with(core, store, limits());
}

/// Three regions with a core each; a single-region shard that lives in the first.
async fn three() -> (Harness, ShardId) {
    in_world(THREE).await
}

async fn in_world(world: &str) -> (Harness, ShardId) {
    let mut site = Harness::empty(world);
    for core in ["r1/core/1", "r2/core/1", "r3/core/1"] {
        add(&mut site, &node(core));
    }
    site.settled().await;
    let shards = site.world.shards_homed_in(HOME);
    let shard = *shards.iter().find(|shard| shard.durability == wire::Durability::Region).unwrap();
    (site, shard)
}

/// Waits until one core knows that the other lives, or does not.
async fn notices(site: &Harness, by: &str, other: &str, is_alive: bool) {
    let (mesh, other) = (&site.cores[&node(by)].mesh, node(other));
    let knows = || mesh.membership().borrow().is_alive(&other) == is_alive;
    eventually("what became of a core to be noticed", || knows().then_some(())).await;
}

async fn messages(edge: &Edge, id: ConversationId) -> Vec<Change> {
    match edge.query(&actor("local", "ann"), id, newest(200)).await.unwrap() {
        Answer::History { messages, .. } => {
            messages.into_iter().map(wire::change::Recorded::into_change).collect()
        }
        other => panic!("{other:?}"),
    }
}

/// seq, name, whether it is flagged.
fn told(messages: &[Change]) -> Vec<(u64, String, bool)> {
    let message = |change: &Change| match &change.event {
        Event::Message(message) => {
            (message.seq, message.draft.client_msg_id.to_string(), message.recovered)
        }
        other => panic!("{other:?}"),
    };
    messages.iter().map(message).collect()
}

/// Waits until a region has every row before the slot that the core which serves the shard has
/// acknowledged.
async fn come_over(site: &Harness, from: &str, shard: ShardId, to: RegionId) {
    let end = site.status(&node(from), &shard).committed;
    let store = site.store(to);
    let there = async {
        while store.read_log(shard, Slot(0), 1_000).await.unwrap().len()
            < usize::try_from(end).unwrap()
        {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(DEADLINE, there).await.unwrap();
}

/// What is projected of these events, from this version on, comes over as it may; their frame,
/// behind all that has come over, does not.
async fn only_rows_come_over(
    site: &Harness,
    id: ConversationId,
    ver: u64,
    events: impl IntoIterator<Item = Event>,
) {
    let (store, shard) = (site.store(AWAY), id.shard);
    // Where the log ends for the other regions: a note to her inbox may stand behind what she was
    // told of.
    let log = store.read_log(shard, Slot(0), 1_000).await.unwrap();
    let slot = log.last().unwrap().at.slot.next();
    let (epoch, ts_ms) = (Epoch(1), 9);
    let change = |(ver, event)| Change { conversation: id, ver, epoch, ts_ms, event };
    let frame = LogFrame {
        epoch,
        slot,
        ts_ms,
        changes: (ver..).zip(events).map(change).map(Into::into).collect(),
    };
    store.project(shard, projection::project(&frame)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_lost_region_exactly_what_had_not_come_over_is_missing_and_all_of_it_comes_back_flagged()
 {
    let (mut site, shard) = three().await;
    let edge = site.edge(&node("r2/edge/1"));
    let ann = actor("local", "ann");
    let id = edge.group_in(shard);
    edge.create(&ann, id, &[]).await;
    let mut epoch = 0;
    for n in 1..=3 {
        epoch = edge.send(&ann, id, &format!("m-{n}"), "x").await.epoch.0;
    }
    come_over(&site, "r1/core/1", shard, AWAY).await;
    // What is acknowledged from now on is at home alone.
    for other in [AWAY, FAR] {
        site.simulated().cut(HOME, other);
    }
    for n in 4..=6 {
        assert_eq!(edge.send(&ann, id, &format!("m-{n}"), "x").await.seq, n);
    }
    site.kill(&node("r1/core/1"));
    let away = site.cores[&node("r2/core/1")].core.clone();
    notices(&site, "r2/core/1", "r1/core/1", false).await;
    match away.fail_over(HOME, false).await {
        Err(FailoverError::WouldLose { region: HOME, shards }) => {
            assert!(
                shards.iter().any(|outlook| outlook.shard == shard && outlook.window_ms.is_some()),
                "{shards:?}"
            );
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(
        site.store(AWAY).failed_over(shard.zone).await.unwrap().len(),
        0,
        "nothing is decided"
    );
    let decided = away.fail_over(HOME, true).await.unwrap();
    assert!(!decided.planned);
    let outlook = decided.shards.iter().find(|outlook| outlook.shard == shard).unwrap();
    assert_eq!(outlook.owner.as_ref().map(|owner| owner.region), Some(AWAY));
    assert_eq!(told(&messages(&edge, id).await).len(), 3, "what had come over, and no more");
    // One sends again what was acknowledged and is missing; another says something new.
    let again = edge.send(&ann, id, "m-5", "x").await;
    assert_eq!((again.seq, again.duplicate, again.epoch.0 > epoch), (4, false, true));
    assert_eq!(edge.send(&ann, id, "n-1", "x").await.seq, 5);
    // Who watches with what the lost region had said gets what is said now.
    let mut watching = edge.open(shard).await;
    watching.watch_after(id, 7, epoch).await;
    assert_eq!(vers(&watching.deliveries(2).await)[&id], [5, 6]);
    for other in [AWAY, FAR] {
        site.simulated().heal(HOME, other);
    }
    assert_eq!(vers(&watching.deliveries(2).await)[&id], [7, 8], "the salvage");
    let whole =
        [(1, "m-1"), (2, "m-2"), (3, "m-3"), (4, "m-5"), (5, "n-1"), (6, "m-4"), (7, "m-6")];
    let whole = whole.map(|(seq, name)| (seq, name.to_owned(), seq > 5));
    assert_eq!(told(&messages(&edge, id).await), whole);
    let forks = async {
        while !site.store(AWAY).lease(shard).await.unwrap().forks.is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(DEADLINE, forks).await.expect("the fork is closed");
    // Home again: nothing is lost, and nothing of what was void is shown. What was said meanwhile
    // it fetches by itself.
    add(&mut site, &node("r1/core/1"));
    notices(&site, "r2/core/1", "r1/core/1", true).await;
    let back = away.fail_back(HOME).await.unwrap();
    assert!(back.planned && site.owner(&shard).await.region == HOME);
    assert_eq!(told(&messages(&edge, id).await), whole);
    assert_eq!(edge.send(&ann, id, "m-7", "x").await.seq, 8);
    assert!(edge.send(&ann, id, "m-6", "x").await.duplicate);
}

/// Kills the home of a shard whose zone allows that so many seconds of it are missing; `cut_for`
/// before it nothing of it comes over any more.
async fn lost_by_itself(max_rpo_s: u16, cut_for: Duration) -> (Harness, ShardId) {
    let (mut site, shard) =
        in_world(&THREE.replacen("shards = 1", &format!("max_rpo_s = {max_rpo_s}\nshards = 1"), 1))
            .await;
    let edge = site.edge(&node("r2/edge/1"));
    let (ann, id) = (actor("local", "ann"), edge.group_in(shard));
    edge.create(&ann, id, &[]).await;
    edge.send(&ann, id, "m-1", "x").await;
    let said = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis();
    let whole = async {
        while site
            .store(AWAY)
            .fresh_as_of(shard, AWAY)
            .await
            .unwrap()
            .is_none_or(|as_of_ms| u128::from(as_of_ms) <= said)
        {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(DEADLINE, whole)
        .await
        .expect("the follower makes sure that it has everything");
    if !cut_for.is_zero() {
        for other in [AWAY, FAR] {
            site.simulated().cut(HOME, other);
        }
        tokio::time::sleep(cut_for).await;
    }
    site.kill(&node("r1/core/1"));
    (site, shard)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_region_is_failed_over_by_itself_if_little_enough_is_missing() {
    let (site, shard) = lost_by_itself(60, Duration::ZERO).await;
    let owner = async {
        while site.store(AWAY).lease(shard).await.unwrap().acting.map(|acting| acting.region)
            != Some(AWAY)
        {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(DEADLINE, owner).await.expect("its successor serves it");
    assert!(site.store(AWAY).failed_over(shard.zone).await.unwrap().contains(&HOME));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_region_is_left_to_operators_if_too_much_may_be_missing() {
    let (site, shard) = lost_by_itself(10, Duration::from_secs(14)).await;
    notices(&site, "r2/core/1", "r1/core/1", false).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(site.store(AWAY).failed_over(shard.zone).await.unwrap().len(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_region_that_is_lost_while_it_is_failed_over_needs_somebody_to_accept_that() {
    let (mut site, shard) = three().await;
    let away = site.cores[&node("r2/core/1")].core.clone();
    site.kill(&node("r1/core/1"));
    // Nobody knows yet that it does not live.
    match away.fail_over(HOME, false).await {
        Err(FailoverError::WouldLose { region: HOME, .. }) => {}
        other => panic!("{other:?}"),
    }
    assert_eq!(
        site.store(AWAY).failed_over(shard.zone).await.unwrap().len(),
        0,
        "the decision is taken back"
    );
    assert_eq!(
        site.store(AWAY).lease(shard).await.unwrap().acting.map(|acting| acting.region),
        Some(HOME)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_region_that_lives_is_failed_over_and_back_without_any_loss() {
    let (mut site, shard) = three().await;
    let edge = site.edge(&node("r3/edge/1"));
    let ann = actor("local", "ann");
    let id = edge.group_in(shard);
    edge.create(&ann, id, &[]).await;
    let far = site.cores[&node("r3/core/1")].core.clone();
    let mut seq = 0;
    let mut epoch = 0;
    for round in 0..4 {
        for _ in 0..20 {
            seq += 1;
            let ack = edge.send(&ann, id, &format!("m-{seq}"), "x").await;
            assert_eq!((ack.seq, ack.duplicate), (seq, false));
            assert!(ack.epoch.0 >= epoch);
            epoch = ack.epoch.0;
        }
        let decided = if round % 2 == 0 {
            far.fail_over(HOME, false).await
        } else {
            far.fail_back(HOME).await
        };
        assert!(decided.unwrap().planned);
        let there = if round % 2 == 0 { AWAY } else { HOME };
        assert_eq!(site.owner(&shard).await.region, there);
        assert!(site.store(there).lease(shard).await.unwrap().forks.is_empty());
    }
    let all: Vec<_> = (1..=seq).map(|seq| (seq, format!("m-{seq}"), false)).collect();
    assert_eq!(told(&messages(&edge, id).await), all);
    assert_eq!(
        site.store(HOME)
            .mark(shard, &Mark::Committed)
            .await
            .unwrap()
            .map(|mark| mark.slot.0 >= seq),
        Some(true)
    );
}

/// Waits until a region's follower has everything before this slot, and returns its mark.
async fn followed(site: &Harness, core: &str, shard: ShardId, end: u64) -> Position {
    let core = node(core);
    let there = || {
        let followers = site.cores[&core].core.status().followers;
        followers.into_iter().find(|follower| follower.shard == shard && follower.next == end)
    };
    let follower = eventually("the follower", there).await;
    assert!(
        follower.committed == end && !follower.serves && follower.last_ts_ms.is_some(),
        "{follower:?}"
    );
    site.store(core.region).mark(shard, &Mark::Follower(core.region)).await.unwrap().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_regions_follow_what_comes_over_and_no_further_and_project_it() {
    let (mut site, shard) = three().await;
    let edge = site.edge(&node("r1/edge/1"));
    let (ann, id) = (actor("local", "ann"), edge.group_in(shard));
    edge.create(&ann, id, &[]).await;
    for n in 1..=5 {
        edge.send(&ann, id, &format!("m-{n}"), "x").await;
    }
    let end = site.status(&node("r1/core/1"), &shard).committed;
    for core in ["r2/core/1", "r3/core/1"] {
        let mark = followed(&site, core, shard, end).await;
        assert_eq!((mark.epoch.0, mark.slot.0), (1, end));
        let there = site.store(node(core).region);
        assert_eq!(there.messages(id, 1, 9).await.unwrap().len(), 5);
    }
    // A row that nobody has acknowledged is not taken, though it is there.
    let unacknowledged = Position { epoch: Epoch(1), slot: Slot(end) };
    let frame = LogFrame { epoch: Epoch(1), slot: Slot(end), ts_ms: 1, changes: vec![] };
    site.store(HOME).append(shard, unacknowledged, frame.to_bytes()).await.unwrap();
    // Whoever comes next goes on from the mark.
    site.kill(&node("r2/core/1"));
    add(&mut site, &node("r2/core/1"));
    let follower = || {
        let followers = site.cores[&node("r2/core/1")].core.status().followers;
        followers.into_iter().find(|follower| follower.shard == shard)
    };
    let again = eventually("the follower's next incarnation", follower).await;
    assert_eq!(
        (again.next, again.committed, again.last_ts_ms),
        (end, end, None),
        "nothing is taken twice"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_decided_is_refused() {
    let (mut site, _) = three().await;
    let core = site.cores[&node("r2/core/1")].core.clone();
    let nowhere = RegionId(9);
    assert_eq!(
        core.fail_over(nowhere, true).await,
        Err(FailoverError::NothingToDo { region: nowhere })
    );
    site.kill(&node("r1/core/1"));
    notices(&site, "r2/core/1", "r1/core/1", false).await;
    assert_eq!(core.fail_back(HOME).await, Err(FailoverError::NotBack { region: HOME }));
}

fn homed_in(region: RegionId, shard: ShardId) -> ShardId {
    ShardId { home: region, ..shard }
}

async fn kill_and_fail_over(site: &mut Harness, lost: &str, by: &str) {
    site.kill(&node(lost));
    notices(site, by, lost, false).await;
    site.cores[&node(by)].core.clone().fail_over(node(lost).region, true).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_conversation_moves_and_survives_the_loss_of_where_it_was_and_of_where_it_is() {
    let (mut site, shard) = three().await;
    let edge = site.edge(&node("r3/edge/1"));
    let ann = actor("local", "ann");
    let id = edge.group_in(shard);
    edge.create(&ann, id, &["bob"]).await;
    let first = edge.send(&ann, id, "m-1", "x").await;
    let mut watching = edge.open(shard).await;
    watching.watch(id, Some(0), &[]).await.unwrap().unwrap();
    let far = site.cores[&node("r3/core/1")].core.clone();
    let to = Home { generation: 1, shard: homed_in(AWAY, shard) };
    assert_eq!(far.move_conversation(id, AWAY).await, Ok(to));
    assert_eq!(vers(&watching.deliveries(3).await)[&id], [1, 2, 3]);
    assert_eq!(moved(&mut watching).await, (None, to), "the watch ends");
    let say = async |name: &str| {
        let mut there = edge.open(to.shard).await;
        ack(there.command(&ann, id, send(name, "x")).await.unwrap())
    };
    let again = say("m-1").await;
    assert_eq!(
        (again.seq, again.duplicate, again.epoch),
        (1, true, first.epoch),
        "a retry across the move"
    );
    let next = say("m-2").await;
    assert!(next.seq == 2 && !next.duplicate && next.epoch > first.epoch, "{next:?}");
    // The arrival is everywhere some time later, and then the move is over.
    let cursor = async || {
        site.store(HOME)
            .mark(shard, &Mark::Consumer("moves".into()))
            .await
            .unwrap()
            .unwrap_or_default()
    };
    let left = site.status(&node("r1/core/1"), &shard).committed;
    let over = async {
        while cursor().await.slot.0 < left {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(DEADLINE, over).await.expect("the move is finished");
    // Where it was is lost: whoever has that shard now says where it is, and there nothing has
    // changed.
    kill_and_fail_over(&mut site, "r1/core/1", "r3/core/1").await;
    assert_eq!(asked_by(&ann, &edge, shard, id).await, to);
    assert_eq!(say("m-3").await.seq, 3);
    come_over(&site, "r2/core/1", to.shard, FAR).await;
    // Where it is is lost: what had come over goes on.
    add(&mut site, &node("r1/core/1"));
    notices(&site, "r3/core/1", "r1/core/1", true).await;
    kill_and_fail_over(&mut site, "r2/core/1", "r3/core/1").await;
    assert_eq!(say("m-2").await.seq, 2, "known as a duplicate by its new owner");
    let last = say("m-4").await;
    assert!(last.seq == 4 && last.epoch > next.epoch, "{last:?}");
    assert_eq!(asked_by(&ann, &edge, shard, id).await, to);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_conversation_does_not_move_while_a_region_does_not_follow() {
    let (mut site, shard) = three().await;
    let edge = site.edge(&node("r1/edge/1"));
    let ann = actor("local", "ann");
    let id = edge.group_in(shard);
    edge.create(&ann, id, &[]).await;
    site.kill(&node("r3/core/1"));
    edge.send(&ann, id, "m-1", "x").await;
    let core = site.cores[&node("r2/core/1")].core.clone();
    let refusal = core.move_conversation(id, AWAY).await.unwrap_err();
    assert_eq!(refusal.code, ErrorCode::HomeUnavailable, "{}", refusal.message);
    assert_eq!(edge.send(&ann, id, "m-2", "x").await.seq, 2, "nobody has to wait");
    add(&mut site, &node("r3/core/1"));
    assert_eq!(core.move_conversation(id, AWAY).await.map(|to| to.generation), Ok(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nor_while_a_region_is_lost_that_lacks_nothing() {
    let (mut site, shard) = three().await;
    let edge = site.edge(&node("r1/edge/1"));
    let (ann, id) = (actor("local", "ann"), edge.group_in(shard));
    edge.create(&ann, id, &[]).await;
    edge.send(&ann, id, "m-1", "x").await;
    let committed = site.status(&node("r1/core/1"), &shard).committed;
    let far = site.store(FAR);
    let followed = async {
        while far.mark(shard, &Mark::Follower(FAR)).await.unwrap().unwrap_or_default().slot.0
            < committed
        {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(DEADLINE, followed).await.unwrap();
    site.kill(&node("r3/core/1"));
    let core = site.cores[&node("r2/core/1")].core.clone();
    let answered = tokio::time::timeout(DEADLINE, core.move_conversation(id, AWAY))
        .await
        .expect("nothing has begun");
    assert_eq!(answered.unwrap_err().code, ErrorCode::HomeUnavailable);
    assert_eq!(edge.send(&ann, id, "m-2", "x").await.seq, 2, "nobody has to wait");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_move_that_was_lost_never_was() {
    let (mut site, shard) = three().await;
    let edge = site.edge(&node("r2/edge/1"));
    let (ann, id) = (actor("local", "ann"), edge.group_in(shard));
    edge.create(&ann, id, &[]).await;
    edge.send(&ann, id, "m-1", "x").await;
    come_over(&site, "r1/core/1", shard, AWAY).await;
    for other in [AWAY, FAR] {
        site.simulated().cut(HOME, other);
    }
    let to = Home { generation: 1, shard: homed_in(AWAY, shard) };
    let starts = site.store(AWAY).lease(shard).await.unwrap().starts.iter().collect();
    let stay = Tenure { shard, after: Epoch(0), until: Epoch(1), ended_ts_ms: 9, starts };
    let left = Event::MovedOut(MovedOut { to, head_seq: 1, tenures: vec![stay] });
    only_rows_come_over(&site, id, 3, [left]).await;
    kill_and_fail_over(&mut site, "r1/core/1", "r2/core/1").await;
    let home = Home { generation: 0, shard };
    assert_eq!(asked_by(&ann, &edge, to.shard, id).await, home, "also where it would have gone");
    assert_eq!(edge.send(&ann, id, "m-2", "x").await.seq, 2);
    assert_eq!(told(&messages(&edge, id).await).len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_of_what_was_lost_are_not_believed() {
    let (mut site, shard) = three().await;
    let edge = site.edge(&node("r2/edge/1"));
    let (ann, id) = (actor("local", "ann"), edge.group_in(shard));
    edge.create(&ann, id, &[]).await;
    edge.send(&ann, id, "m-1", "x").await;
    come_over(&site, "r1/core/1", shard, AWAY).await;
    for other in [AWAY, FAR] {
        site.simulated().cut(HOME, other);
    }
    site.kill(&node("r1/core/1"));
    let message = |seq: u64| {
        let client_msg_id = ClientMsgId::new(format!("lost-{seq}")).unwrap();
        let draft = Draft::text(client_msg_id, "x");
        Event::Message(Message {
            seq,
            sender: user("ann"),
            device: None,
            draft,
            recovered: false,
            later: Default::default(),
        })
    };
    let added = vec![(user("eve"), Role::Member)];
    let joined = MembersChanged {
        by: user("ann"),
        added,
        removed: vec![],
        roles: vec![],
        head_seq: 3,
        member_count: 3,
    };
    only_rows_come_over(&site, id, 3, [message(2), message(3), Event::MembersChanged(joined)])
        .await;
    let away = site.cores[&node("r2/core/1")].core.clone();
    notices(&site, "r2/core/1", "r1/core/1", false).await;
    away.fail_over(HOME, true).await.unwrap();
    assert_eq!(told(&messages(&edge, id).await), [(1, "m-1".to_owned(), false)]);
    let eve = edge.ask(&actor("local", "eve"), id, send("e-1", "x")).await;
    assert_eq!(eve.unwrap_err().code, ErrorCode::NotAMember, "she was never taken in");
    assert_eq!(edge.send(&ann, id, "m-2", "x").await.seq, 2);
    assert_eq!(
        edge.send(&ann, id, "lost-3", "x").await.seq,
        3,
        "nobody has it: it is no duplicate"
    );
}
