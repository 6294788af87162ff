//! One direct connection with one peer, from its greeting to its loss.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use quinn::Connection;
use tokio::sync::Notify;
use tokio::time::{Instant, MissedTickBehavior};
use wire::NodeId;

use crate::channel::{Channel, Receiver, Sender};
use crate::codes;
use crate::head::{HEAD_BYTES, Hello, Notice};
use crate::shared::Shared;
use crate::streams;

/// How often a link's pulse is felt.
const PULSE: Duration = Duration::from_millis(200);
/// Every so many pulses the peer is told our links, and at the next pulse after one of them has changed.
const PULSES_PER_REPORT: u32 = 5;
/// A pulse felt so late says that this node stood still, not that the peer is silent.
const STOOD_STILL: Duration = Duration::from_millis(600);
/// A report that the peer does not take within this is left out.
const REPORT_WITHIN: Duration = Duration::from_millis(250);
/// A superseded link is not closed before this: the peer may just be opening something on it.
const RETIRE_AFTER: Duration = Duration::from_secs(2);

/// A connection whose peer is proven and has said hello.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) peer: NodeId,
    pub(crate) connection: Connection,
    /// The dialler's name for it.
    pub(crate) id: u64,
    /// The one of the two with the smaller name dialled it.
    pub(crate) dialled_by_smaller: bool,
    /// Which life of the peer.
    pub(crate) generation: u64,
    /// The minor version that it speaks; may be one that this code does not know.
    pub(crate) minor: u8,
    healthy: AtomicBool,
    uses: AtomicUsize,
    unused: Notify,
}

impl Link {
    pub(crate) fn new(
        peer: NodeId,
        connection: Connection,
        id: u64,
        dialled_by_smaller: bool,
        theirs: &Hello,
    ) -> Self {
        Self {
            peer,
            connection,
            id,
            dialled_by_smaller,
            generation: theirs.generation,
            minor: theirs.minor,
            healthy: AtomicBool::new(true),
            uses: AtomicUsize::new(0),
            unused: Notify::new(),
        }
    }

    /// Something was heard on it lately.
    pub(crate) fn is_healthy(&self) -> bool {
        self.healthy.load(Ordering::Acquire) && self.connection.close_reason().is_none()
    }

    /// The smoothed round trip.
    pub(crate) fn rtt(&self) -> Duration {
        self.connection.rtt()
    }

    /// One more user.
    pub(crate) fn hold(self: &Arc<Self>) -> Use {
        self.uses.fetch_add(1, Ordering::AcqRel);
        Use(self.clone())
    }

    /// Waits until nobody uses it.
    pub(crate) async fn unused(&self) {
        loop {
            let told = self.unused.notified();
            tokio::pin!(told);
            told.as_mut().enable();
            if self.uses.load(Ordering::Acquire) == 0 {
                return;
            }
            told.await;
        }
    }

    /// Closes it once nobody uses it, because another one is kept.
    pub(crate) async fn retire(self: Arc<Self>) {
        tokio::time::sleep(RETIRE_AFTER).await;
        self.unused().await;
        self.connection.close(codes::SUPERSEDED, b"superseded");
    }
}

/// While it lives, the link is in use.
#[derive(Debug)]
pub(crate) struct Use(Arc<Link>);

impl Use {
    pub(crate) fn peer(&self) -> &NodeId {
        &self.0.peer
    }
}

impl Drop for Use {
    fn drop(&mut self) {
        if self.0.uses.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.unused.notify_waiters();
        }
    }
}

/// When something was last heard.
struct Pulse {
    datagrams: u64,
    heard: Instant,
    felt: Instant,
}

impl Pulse {
    /// How long the peer has been silent while this node was awake.
    fn silence(&mut self, datagrams: u64, now: Instant) -> Duration {
        let since = now - self.felt;
        if datagrams != self.datagrams {
            (self.datagrams, self.heard) = (datagrams, now);
        } else if since > STOOD_STILL {
            self.heard = (self.heard + since).min(now);
        }
        self.felt = now;
        now - self.heard
    }
}

/// Serves a link until it is lost: its streams, its datagrams, its notices, its pulse.
pub(crate) async fn serve(shared: Arc<Shared>, link: Arc<Link>, control: Channel) {
    let (mut sender, mut receiver) = control.split();
    let mut pulse = Pulse { datagrams: 0, heard: Instant::now(), felt: Instant::now() };
    let mut changes = shared.book.changes();
    let mut ticks = tokio::time::interval(PULSE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut beats = 0u32;
    let connection = &link.connection;
    loop {
        tokio::select! {
            stream = connection.accept_bi() => {
                let Ok((send, recv)) = stream else { break };
                shared.spawn(streams::serve(shared.clone(), link.clone(), send, recv));
            }
            datagram = connection.read_datagram() => {
                let Ok(datagram) = datagram else { break };
                shared.gossip.datagram(&link.peer, datagram);
            }
            heard = notice(&shared, &link, &mut receiver) => {
                if !heard {
                    connection.close(codes::PROTOCOL, b"control stream ended");
                    break;
                }
            }
            _ = ticks.tick() => {
                feel(&shared, &link, &mut pulse);
                if beats.is_multiple_of(PULSES_PER_REPORT) || changes.has_changed().unwrap_or(false) {
                    changes.mark_unchanged();
                    report(&shared, &link, &mut sender).await;
                }
                beats = beats.wrapping_add(1);
            }
        }
    }
    let reason = connection.closed().await;
    if shared.book.lose(&link) {
        tracing::info!(node = %shared.node, peer = %link.peer, %reason, "link lost");
    }
}

/// One notice; false when there will be no more.
async fn notice(shared: &Shared, link: &Link, receiver: &mut Receiver) -> bool {
    let Ok(Some(frame)) = receiver.recv_up_to(HEAD_BYTES).await else { return false };
    match Notice::from_bytes(&frame) {
        Ok(Notice::Links(links)) => shared.book.reported(link, links),
        // Of a later version, or a hello repeated.
        Ok(_) => {}
        Err(error) => {
            tracing::warn!(node = %shared.node, peer = %link.peer, %error, "malformed notice");
            return false;
        }
    }
    true
}

fn feel(shared: &Shared, link: &Link, pulse: &mut Pulse) {
    let datagrams = link.connection.stats().udp_rx.datagrams;
    let healthy = pulse.silence(datagrams, Instant::now()) < shared.timings.link_silent;
    if link.healthy.swap(healthy, Ordering::AcqRel) != healthy {
        tracing::info!(node = %shared.node, peer = %link.peer, healthy, "link");
        shared.book.tell_change();
    }
}

/// Tells the peer our links; a peer that does not read its notices misses one.
async fn report(shared: &Shared, link: &Link, sender: &mut Sender) {
    let notice = Notice::Links(shared.book.report(&link.peer)).to_bytes();
    let _ = tokio::time::timeout(REPORT_WITHIN, sender.send(notice)).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_counted_only_while_this_node_is_awake() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut pulse = Pulse { datagrams: 0, heard: start, felt: start };
        assert_eq!(pulse.silence(0, at(100)), Duration::from_millis(100));
        assert_eq!(pulse.silence(0, at(200)), Duration::from_millis(200));
        // It stood still for ten seconds.
        assert_eq!(pulse.silence(0, at(10_200)), Duration::from_millis(200));
        assert_eq!(pulse.silence(0, at(10_300)), Duration::from_millis(300));
        assert_eq!(pulse.silence(1, at(10_400)), Duration::ZERO);
    }
}
