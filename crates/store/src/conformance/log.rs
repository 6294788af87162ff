//! The log and the marks.

use bytes::Bytes;
use conversation::log::LogRow;
use futures_util::future::join_all;
use wire::limits::LOG_FRAME_BYTES;
use wire::{Durability, Position, RegionId, Slot};

use super::{Bench, REGIONS, at};
use crate::contract::Mark;

pub(super) async fn cases(bench: &Bench<'_>) {
    an_append_may_be_repeated_and_every_region_reads_it(bench).await;
    rows_of_all_epochs_show_in_the_order_of_slot_and_epoch(bench).await;
    a_read_starts_at_its_slot_and_ends_at_its_limit(bench).await;
    shards_do_not_mix(bench).await;
    the_largest_frame_comes_back_whole(bench).await;
    many_appends_at_once_are_all_there(bench).await;
    marks_grow_by_epoch_first(bench).await;
    marks_do_not_mix(bench).await;
    a_region_is_fresh_as_of_the_latest_time_it_said(bench).await;
}

fn frame(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn row(epoch: u64, slot: u64, text: &str) -> LogRow {
    LogRow { at: at(epoch, slot), frame: frame(text) }
}

async fn an_append_may_be_repeated_and_every_region_reads_it(bench: &Bench<'_>) {
    for shard in bench.shards() {
        for _ in 0..3 {
            bench.store(1).append(shard, at(1, 0), frame("one")).await.expect("appended");
        }
        bench.store(2).append(shard, at(1, 0), frame("one")).await.expect("appended by another");
        for region in REGIONS {
            let read = bench.store(region.0).read_log(shard, Slot(0), 10).await;
            assert_eq!(read, Ok(vec![row(1, 0, "one")]), "{shard}");
        }
    }
}

async fn rows_of_all_epochs_show_in_the_order_of_slot_and_epoch(bench: &Bench<'_>) {
    for shard in bench.shards() {
        for (epoch, slot, text) in
            [(2, 1, "d"), (1, 0, "a"), (3, 1, "e"), (1, 1, "c"), (2, 0, "b"), (1, 300, "f")]
        {
            bench.store(1).append(shard, at(epoch, slot), frame(text)).await.expect("appended");
        }
        let read = bench.store(3).read_log(shard, Slot(0), 100).await.expect("read");
        let want = vec![
            row(1, 0, "a"),
            row(2, 0, "b"),
            row(1, 1, "c"),
            row(2, 1, "d"),
            row(3, 1, "e"),
            row(1, 300, "f"),
        ];
        assert_eq!(read, want);
    }
}

async fn a_read_starts_at_its_slot_and_ends_at_its_limit(bench: &Bench<'_>) {
    let shard = bench.shard(Durability::MultiRegion);
    assert_eq!(bench.store(1).read_log(shard, Slot(0), 10).await, Ok(vec![]));
    for slot in 0..600 {
        bench
            .store(1)
            .append(shard, at(1, slot), frame(&slot.to_string()))
            .await
            .expect("appended");
    }
    let read = |from, limit| async move {
        bench.store(2).read_log(shard, Slot(from), limit).await.expect("read")
    };
    let slots = |rows: &[LogRow]| rows.iter().map(|row| row.at.slot.0).collect::<Vec<_>>();
    assert_eq!(slots(&read(250, 10).await), (250..260).collect::<Vec<_>>());
    assert_eq!(slots(&read(0, 1000).await), (0..600).collect::<Vec<_>>());
    assert_eq!(slots(&read(599, 5).await), vec![599]);
    assert_eq!(slots(&read(600, 5).await), Vec::<u64>::new());
}

async fn shards_do_not_mix(bench: &Bench<'_>) {
    let [a, b] = bench.shards();
    let other = bench.shard(a.durability);
    for (shard, text) in [(a, "a"), (b, "b"), (other, "other")] {
        bench.store(1).append(shard, at(1, 5), frame(text)).await.expect("appended");
    }
    for (shard, text) in [(a, "a"), (b, "b"), (other, "other")] {
        assert_eq!(bench.store(1).read_log(shard, Slot(0), 10).await, Ok(vec![row(1, 5, text)]));
    }
}

async fn the_largest_frame_comes_back_whole(bench: &Bench<'_>) {
    let shard = bench.shard(Durability::MultiRegion);
    let large: Bytes = (0..2 * LOG_FRAME_BYTES).map(|n| (n % 251) as u8).collect();
    bench.store(1).append(shard, at(1, 0), large.clone()).await.expect("appended");
    assert_eq!(
        bench.store(2).read_log(shard, Slot(0), 1).await,
        Ok(vec![LogRow { at: at(1, 0), frame: large }])
    );
}

async fn many_appends_at_once_are_all_there(bench: &Bench<'_>) {
    for shard in bench.shards() {
        let store = bench.store(1);
        let appends = (0..200).map(|slot| {
            let store = &store;
            async move { store.append(shard, at(1, slot), frame(&format!("frame {slot}"))).await }
        });
        assert!(join_all(appends).await.into_iter().all(|result| result.is_ok()));
        let read = store.read_log(shard, Slot(0), 1000).await.expect("read");
        assert_eq!(
            read,
            (0..200).map(|slot| row(1, slot, &format!("frame {slot}"))).collect::<Vec<_>>()
        );
    }
}

async fn marks_grow_by_epoch_first(bench: &Bench<'_>) {
    for shard in bench.shards() {
        for mark in [
            Mark::Checkpoint,
            Mark::Committed,
            Mark::Consumer("push".into()),
            Mark::Follower(RegionId(2)),
        ] {
            assert_eq!(bench.store(1).mark(shard, &mark).await, Ok(None));
            let steps: [(Position, Position); 5] = [
                (at(1, 10), at(1, 10)),
                (at(1, 4), at(1, 10)),
                (at(2, 3), at(2, 3)),
                (at(1, 50), at(2, 3)),
                (at(2, 9), at(2, 9)),
            ];
            for (write, then) in steps {
                bench.store(1).write_mark(shard, &mark, write).await.expect("written");
                assert_eq!(
                    bench.store(1).mark(shard, &mark).await,
                    Ok(Some(then)),
                    "{mark:?} after {write:?}"
                );
            }
        }
    }
}

async fn marks_do_not_mix(bench: &Bench<'_>) {
    let shard = bench.shard(Durability::MultiRegion);
    let marks = [
        Mark::Checkpoint,
        Mark::Committed,
        Mark::Consumer("push".into()),
        Mark::Consumer("pus".into()),
        Mark::Consumer("pushed".into()),
        Mark::Follower(RegionId(2)),
        Mark::Follower(RegionId(3)),
    ];
    for (n, mark) in (1..).zip(&marks) {
        bench.store(1).write_mark(shard, mark, at(1, n)).await.expect("written");
    }
    for (n, mark) in (1..).zip(&marks) {
        assert_eq!(bench.store(3).mark(shard, mark).await, Ok(Some(at(1, n))), "{mark:?}");
    }
}

async fn a_region_is_fresh_as_of_the_latest_time_it_said(bench: &Bench<'_>) {
    let [near, far] = [RegionId(2), RegionId(3)];
    for shard in bench.shards() {
        let store = bench.store(1);
        assert_eq!(store.fresh_as_of(shard, near).await, Ok(None));
        // Today, in milliseconds since 1970.
        for (write, then) in [(1_790_000_000_500, 1_790_000_000_500), (7, 1_790_000_000_500)] {
            store.write_fresh_as_of(shard, near, write).await.expect("written");
            assert_eq!(bench.store(2).fresh_as_of(shard, near).await, Ok(Some(then)));
        }
        store.write_fresh_as_of(shard, near, 1_790_000_000_501).await.expect("written");
        assert_eq!(store.fresh_as_of(shard, near).await, Ok(Some(1_790_000_000_501)));
        assert_eq!(store.fresh_as_of(shard, far).await, Ok(None), "another region");
        assert_eq!(store.mark(shard, &Mark::Follower(near)).await, Ok(None), "it is no mark");
    }
}
