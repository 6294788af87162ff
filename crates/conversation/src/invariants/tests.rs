use wire::{ConversationKind, Durability, RegionId, ShardId, ZoneId};

use super::*;

fn conversation() -> ConversationId {
    let shard =
        ShardId { zone: ZoneId(1), home: RegionId(1), durability: Durability::MultiRegion, n: 0 };
    ConversationId { kind: ConversationKind::Group, shard, unique: [1; 16] }
}

fn sender(n: u64) -> UserId {
    UserId::new(format!("u{}", n % 2)).unwrap()
}

fn name(n: u64) -> ClientMsgId {
    ClientMsgId::new(format!("m{n}")).unwrap()
}

/// The n-th message, as everyone should see it.
fn message(n: u64) -> Observed {
    let body_hash = body_hash(&format!("body {n}"));
    Observed {
        seq: n,
        ver: n + 1,
        epoch: Epoch(1),
        sender: sender(n),
        client_msg_id: name(n),
        body_hash,
        recovered: false,
    }
}

fn ack(seq: u64) -> Ack {
    Ack { seq, epoch: Epoch(1), ts_ms: 5, duplicate: false }
}

/// Six messages of two senders, acknowledged; seen by two observers, one of whom is shown these.
fn run(shown: &[Observed]) -> Report {
    let mut checker = sent_and_acked();
    for n in 1..=6 {
        checker.observed("near", conversation(), &message(n));
    }
    for message in shown {
        checker.observed("far", conversation(), message);
    }
    checker.complete("near", conversation(), 1);
    checker.complete("far", conversation(), 1);
    checker.report()
}

fn sent_and_acked() -> Checker {
    let mut checker = Checker::new();
    for n in 1..=6 {
        checker.sent(n % 2, conversation(), &sender(n), &name(n), &format!("body {n}"));
        checker.acked(conversation(), &sender(n), &name(n), &ack(n));
    }
    checker
}

fn all() -> Vec<Observed> {
    (1..=6).map(message).collect()
}

fn counts(report: &Report) -> [u64; 4] {
    [report.lost, report.duplicated, report.reordered, report.gaps]
}

#[test]
fn a_good_run_is_clean() {
    let report = run(&all());
    assert!(report.is_clean(), "{report}");
    assert_eq!((report.sent, report.acked), (6, 6));
}

#[test]
fn an_acknowledged_message_not_shown_is_lost_and_a_gap() {
    let mut shown = all();
    shown.remove(3);
    shown.pop();
    let report = run(&shown);
    assert_eq!(counts(&report), [2, 0, 0, 2]);
    let gap = |from, to| (conversation(), Finding::Gap { from, to, observer: "far".into() });
    assert!(
        report.findings.contains(&gap(4, 4)) && report.findings.contains(&gap(6, 6)),
        "{report}"
    );
    assert_eq!(counts(&run(&[])), [6, 0, 0, 6], "who saw nothing missed everything");
}

#[test]
fn an_unacknowledged_message_not_shown_to_all_is_only_a_gap() {
    let mut checker = sent_and_acked();
    for n in 1..=7 {
        checker.observed("near", conversation(), &message(n));
    }
    for n in 1..=6 {
        checker.observed("far", conversation(), &message(n));
    }
    checker.complete("far", conversation(), 1);
    assert_eq!(counts(&checker.report()), [0, 0, 0, 1]);
}

#[test]
fn an_ack_that_nobody_sees_is_lost() {
    let mut checker = sent_and_acked();
    for n in 1..=5 {
        checker.observed("near", conversation(), &message(n));
    }
    // At the seq of the ack stands another message.
    checker.observed("near", conversation(), &Observed { seq: 6, ver: 7, ..message(8) });
    checker.complete("near", conversation(), 1);
    assert_eq!(counts(&checker.report()), [1, 0, 0, 0]);
}

#[test]
fn who_need_not_have_seen_everything_may_miss_something() {
    let mut checker = sent_and_acked();
    for n in 4..=6 {
        checker.observed("late", conversation(), &message(n));
    }
    assert!(checker.report().is_clean());
    checker.complete("late", conversation(), 4);
    assert!(checker.report().is_clean(), "the observer joined at 4");
    checker.complete("late", conversation(), 3);
    assert_eq!(counts(&checker.report()), [1, 0, 0, 1]);
}

#[test]
fn one_send_under_two_seqs_is_duplicated() {
    let mut shown = all();
    shown.push(Observed { seq: 7, ver: 8, ..message(2) });
    let report = run(&shown);
    assert_eq!(report.duplicated, 1, "{report}");
    let found = (conversation(), Finding::SentTwice { seqs: (2, 7) });
    assert!(report.findings.contains(&found));
}

#[test]
fn a_message_shown_twice_is_duplicated() {
    let mut shown = all();
    shown.push(message(6));
    assert_eq!(counts(&run(&shown)), [0, 1, 0, 0]);
}

#[test]
fn a_message_shown_after_a_later_one_is_reordered() {
    let mut shown = all();
    shown.swap(1, 2);
    assert_eq!(counts(&run(&shown)), [0, 0, 1, 0]);
}

#[test]
fn observers_who_see_different_things_disagree() {
    let changed: [fn(Observed) -> Observed; 4] = [
        |m| Observed { body_hash: 0, ..m },
        |m| Observed { epoch: Epoch(2), ..m },
        |m| Observed { ver: 99, ..m },
        |m| Observed { client_msg_id: name(77), ..m },
    ];
    for change in changed {
        let mut shown = all();
        shown[2] = change(shown[2].clone());
        assert_eq!(counts(&run(&shown)), [0, 0, 1, 0]);
    }
}

#[test]
fn an_ack_that_says_otherwise_disagrees() {
    let mut checker = sent_and_acked();
    checker.sent(9, conversation(), &sender(7), &name(7), "body 7");
    checker.acked(conversation(), &sender(7), &name(7), &Ack { epoch: Epoch(2), ..ack(7) });
    checker.observed("near", conversation(), &message(7));
    assert_eq!(counts(&checker.report()), [0, 0, 1, 0]);
}

#[test]
fn a_retry_that_is_acknowledged_differently_is_found() {
    let mut checker = sent_and_acked();
    checker.acked(conversation(), &sender(3), &name(3), &Ack { duplicate: true, ..ack(3) });
    assert!(checker.report().is_clean());
    checker.acked(conversation(), &sender(3), &name(3), &ack(4));
    assert_eq!(counts(&checker.report()), [0, 0, 1, 0]);
}

#[test]
fn epochs_that_fall_and_vers_that_do_not_grow_are_found() {
    let mut checker = Checker::new();
    for message in [
        message(1),
        Observed { epoch: Epoch(3), ..message(2) },
        Observed { epoch: Epoch(2), ..message(3) },
    ] {
        checker.observed("near", conversation(), &message);
    }
    assert_eq!(counts(&checker.report()), [0, 0, 1, 0]);
    let mut checker = Checker::new();
    for message in [message(1), Observed { ver: 2, ..message(2) }] {
        checker.observed("near", conversation(), &message);
    }
    assert_eq!(counts(&checker.report()), [0, 0, 1, 0]);
}

#[test]
fn a_lane_that_turned_is_found_and_a_retry_does_not_turn_it() {
    let mut checker = Checker::new();
    for n in [1, 3, 1] {
        checker.sent(0, conversation(), &sender(n), &name(n), "x");
    }
    for (seq, n) in [(1, 3), (2, 1)] {
        let body_hash = body_hash("x");
        let shown = Observed {
            seq,
            ver: seq,
            epoch: Epoch(1),
            sender: sender(n),
            client_msg_id: name(n),
            body_hash,
            recovered: false,
        };
        checker.observed("near", conversation(), &shown);
    }
    assert_eq!(counts(&checker.report()), [0, 0, 1, 0]);
    assert_eq!(checker.report().sent, 2);
}

#[test]
fn conversations_are_checked_apart() {
    let other = ConversationId { unique: [2; 16], ..conversation() };
    let mut checker = sent_and_acked();
    for n in 1..=6 {
        checker.observed("near", conversation(), &message(n));
    }
    checker.observed("near", other, &message(1));
    checker.complete("near", conversation(), 1);
    checker.complete("near", other, 1);
    assert!(checker.report().is_clean(), "{}", checker.report());
}

/// A conversation whose region is lost after the fourth message, of which two had come over. Its
/// third comes back; what else there is to see, and to whom, is said by the test.
struct Forked(Checker);

impl Forked {
    fn new() -> Self {
        let mut checker = Checker::new();
        checker.may_fork(conversation());
        let mut forked = Self(checker);
        for n in 1..=4 {
            forked.sends(n);
            forked.acked(n, n, 1, false);
            forked.shown("near", n, n, 1, false);
        }
        // Those of the successor's.
        for n in [5, 6] {
            forked.sends(n);
            forked.acked(n, n - 2, 2, false);
            forked.shown("near", n, n - 2, 2, false);
        }
        forked
    }

    fn sends(&mut self, n: u64) {
        self.0.sent(n % 2, conversation(), &sender(n), &name(n), &format!("body {n}"));
    }

    fn acked(&mut self, n: u64, seq: u64, epoch: u64, duplicate: bool) {
        let ack = Ack { seq, epoch: Epoch(epoch), ts_ms: 5, duplicate };
        self.0.acked(conversation(), &sender(n), &name(n), &ack);
    }

    fn shown(&mut self, to: &str, n: u64, seq: u64, epoch: u64, recovered: bool) {
        let message = Observed { seq, ver: seq + 1, epoch: Epoch(epoch), recovered, ..message(n) };
        self.0.observed(to, conversation(), &message);
    }

    fn counts(mut self) -> [u64; 4] {
        self.0.complete("near", conversation(), 1);
        counts(&self.0.report())
    }
}

#[test]
fn what_a_fork_took_and_gave_back_flagged_is_clean() {
    let mut run = Forked::new();
    run.shown("near", 3, 5, 2, true);
    run.shown("near", 4, 6, 2, true);
    // Whoever comes late sees only what counts.
    for (seq, n) in [(1, 1), (2, 2)] {
        run.shown("late", n, seq, 1, false);
    }
    for (seq, n, recovered) in [(3, 5, false), (4, 6, false), (5, 3, true), (6, 4, true)] {
        run.shown("late", n, seq, 2, recovered);
    }
    run.0.complete("late", conversation(), 1);
    // A retry after all of it.
    run.acked(3, 5, 2, true);
    assert_eq!(run.counts(), [0; 4]);
}

#[test]
fn what_its_sender_sends_again_before_it_comes_back_needs_no_flag() {
    let mut run = Forked::new();
    run.acked(4, 5, 2, false);
    run.shown("near", 4, 5, 2, false);
    run.shown("near", 3, 6, 2, true);
    assert_eq!(run.counts(), [0; 4]);
}

#[test]
fn what_does_not_come_back_is_lost() {
    let mut run = Forked::new();
    run.shown("near", 3, 5, 2, true);
    assert_eq!(run.counts(), [1, 0, 0, 0]);
}

#[test]
fn what_comes_back_unflagged_or_flagged_in_vain_is_found() {
    let mut run = Forked::new();
    run.shown("near", 3, 5, 2, false);
    run.shown("near", 4, 6, 2, true);
    assert_eq!(run.counts(), [0, 0, 1, 0]);
    let mut run = Forked::new();
    run.shown("near", 3, 5, 2, true);
    run.shown("near", 4, 6, 2, true);
    run.sends(7);
    run.acked(7, 7, 2, false);
    run.shown("near", 7, 7, 2, true);
    assert_eq!(run.counts(), [0, 0, 1, 0]);
    let mut checker = sent_and_acked();
    for n in 1..=6 {
        checker.observed("near", conversation(), &Observed { recovered: n == 6, ..message(n) });
    }
    assert_eq!(counts(&checker.report()), [0, 0, 1, 0], "where nothing can be lost");
}

#[test]
fn what_comes_back_twice_is_duplicated() {
    let mut run = Forked::new();
    for (n, seq) in [(3, 5), (4, 6), (3, 7)] {
        run.shown("near", n, seq, 2, true);
    }
    assert_eq!(run.counts(), [0, 1, 0, 0]);
}

#[test]
fn who_did_not_see_what_took_the_place_of_the_lost_has_a_gap() {
    let mut run = Forked::new();
    for (seq, n, recovered) in [(1, 1, false), (2, 2, false), (3, 3, false), (4, 4, false)] {
        run.shown("far", n, seq, 1, recovered);
    }
    for (seq, n) in [(5, 3), (6, 4)] {
        run.shown("near", n, seq, 2, true);
        run.shown("far", n, seq, 2, true);
    }
    run.0.complete("far", conversation(), 1);
    assert_eq!(run.counts(), [2, 0, 0, 2]);
}

#[test]
fn what_is_lost_is_not_shown_after_what_took_its_place() {
    let mut run = Forked::new();
    run.shown("near", 3, 5, 2, true);
    run.shown("near", 4, 6, 2, true);
    run.shown("far", 5, 3, 2, false);
    run.shown("far", 4, 4, 1, false);
    assert_eq!(run.counts(), [0, 0, 1, 0]);
}

#[test]
fn an_ack_of_a_fork_names_the_message_at_its_place_and_goes_up() {
    let mut run = Forked::new();
    run.shown("near", 3, 5, 2, true);
    run.shown("near", 4, 6, 2, true);
    run.acked(3, 6, 2, true);
    run.acked(4, 9, 1, true);
    assert_eq!(run.counts(), [0, 0, 2, 0]);
}
