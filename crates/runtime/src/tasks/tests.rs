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

#[tokio::test]
async fn a_task_until_stop_is_dropped_at_once_and_another_may_finish() {
    let tasks = Tasks::new("test");
    let held = Arc::new(());
    let alive = Arc::downgrade(&held);
    tasks.spawn_until_stop("deaf", async move {
        let _held = held;
        std::future::pending::<()>().await;
    });
    let (stop, finish) = (tasks.stopping(), Arc::new(Notify::new()));
    let finishing = finish.clone();
    tasks.spawn("orderly", async move {
        stop.cancelled().await;
        finishing.notified().await;
    });
    tokio::task::yield_now().await;
    tasks.begin_stop();
    while alive.upgrade().is_some() {
        tokio::task::yield_now().await;
    }
    assert_eq!((tasks.running(), tasks.is_stopping()), (1, true));
    finish.notify_one();
    assert_eq!(tasks.stop(LONG).await, Stopped::InTime);
}

#[tokio::test]
async fn a_killed_task_sees_no_stop() {
    let tasks = Tasks::new("test");
    let (stop, saw_stop) = (tasks.stopping(), Arc::new(AtomicUsize::new(0)));
    let saw = saw_stop.clone();
    tasks.spawn("listener", async move {
        stop.cancelled().await;
        saw.fetch_add(1, Ordering::SeqCst);
    });
    tokio::task::yield_now().await;
    tasks.kill();
    tasks.spawn("late", async { panic!("a killed component runs nothing") });
    assert_eq!(tasks.stop(LONG).await, Stopped::InTime);
    assert_eq!((saw_stop.load(Ordering::SeqCst), tasks.panicked()), (0, vec![]));
}

#[tokio::test]
async fn to_cancel_the_token_that_was_handed_out_stops_nobody() {
    let tasks = Tasks::new("test");
    tasks.stopping().cancel();
    assert!(!tasks.is_stopping() && !tasks.stopping().is_cancelled());
}

#[test]
fn a_task_is_held_once() {
    let task = async {
        let bytes = [0_u8; 4096];
        tokio::task::yield_now().await;
        std::hint::black_box(&bytes);
    };
    let held = size_of_val(&task);
    let tasks = Tasks::new("test");
    let supervised = Supervised {
        ended: tasks.0.kill.clone().cancelled_owned(),
        registered: false,
        until: KILLED,
        name: "test",
        tasks: tasks.clone(),
        task: AssertUnwindSafe(task).catch_unwind(),
    };
    assert!(size_of_val(&supervised) < held + 256, "{} of {held}", size_of_val(&supervised));
}
