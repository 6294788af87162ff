use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

use super::*;

const LONG: Duration = Duration::from_secs(600);

#[tokio::test]
async fn tasks_that_listen_end_in_time() {
    let tasks = Tasks::new("test");
    let ended = Arc::new(AtomicUsize::new(0));
    for _ in 0..3 {
        let (stop, ended) = (tasks.stopping(), ended.clone());
        tasks.spawn("listener", async move {
            stop.cancelled().await;
            ended.fetch_add(1, Ordering::SeqCst);
        });
    }
    assert_eq!(tasks.running(), 3);
    assert_eq!(tasks.stop(LONG).await, Stopped::InTime);
    assert_eq!((ended.load(Ordering::SeqCst), tasks.running()), (3, 0));
    assert_eq!(tasks.stop(LONG).await, Stopped::InTime, "stopping twice is stopping once");
}

#[tokio::test(start_paused = true)]
async fn a_task_that_does_not_listen_is_dropped_at_the_deadline() {
    let tasks = Tasks::new("test");
    let held = Arc::new(());
    let alive = Arc::downgrade(&held);
    tasks.spawn("deaf", async move {
        let _held = held;
        std::future::pending::<()>().await;
    });
    let before = tokio::time::Instant::now();
    assert_eq!(tasks.stop(Duration::from_secs(3)).await, Stopped::Dropped(1));
    assert_eq!(before.elapsed().as_secs(), 3);
    assert!(alive.upgrade().is_none(), "what it held is gone");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_that_blocks_does_not_hold_up_the_stop() {
    let tasks = Tasks::new("test");
    let (release, blocked) = std::sync::mpsc::sync_channel::<()>(1);
    let started = Arc::new(Notify::new());
    let running = started.clone();
    tasks.spawn("blocking", async move {
        running.notify_one();
        let _ = blocked.recv();
    });
    started.notified().await;
    assert_eq!(tasks.stop(Duration::from_millis(10)).await, Stopped::Stuck(1));
    drop(release);
}

#[tokio::test]
async fn a_panic_is_reported_and_ends_nobody_else() {
    let tasks = Tasks::new("test");
    let stop = tasks.stopping();
    tasks.spawn("healthy", async move { stop.cancelled().await });
    tasks.spawn("unlucky", async { panic!("as planned") }).await.unwrap();
    assert_eq!(tasks.panicked(), ["unlucky"]);
    assert_eq!(tasks.running(), 1);
    assert_eq!(tasks.stop(LONG).await, Stopped::InTime);
}
