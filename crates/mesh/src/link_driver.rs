//! Serves one link until it is lost: takes its streams, datagrams and notices, and checks whether
//! the peer is heard.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior};
use wire::stream::{HEADER_BYTES_MAX, Notice};

use crate::channel::{Channel, Receiver, Sender};
use crate::codes;
use crate::context::NodeContext;
use crate::link::Link;
use crate::streams;

/// How often it is checked whether the peer was heard.
const HEALTH_CHECK_INTERVAL: Duration = Duration::from_millis(200);
/// The peer is told our links after this many checks, and at the next check after one has changed.
const CHECKS_PER_REPORT: u32 = 5;
/// A check this late says that this node was suspended, not that the peer is silent.
const SUSPENDED_MIN: Duration = Duration::from_millis(600);
/// A report that the peer does not take within this is left out.
const REPORT_TIMEOUT: Duration = Duration::from_millis(250);

/// How long a peer has been silent.
struct SilenceClock {
    datagrams: u64,
    heard: Instant,
    checked: Instant,
}

impl SilenceClock {
    /// How long the peer has been silent while this node was awake.
    fn silence(&mut self, datagrams: u64, now: Instant) -> Duration {
        let since = now - self.checked;
        if datagrams != self.datagrams {
            (self.datagrams, self.heard) = (datagrams, now);
        } else if since > SUSPENDED_MIN {
            self.heard = (self.heard + since).min(now);
        }
        self.checked = now;
        now - self.heard
    }
}

/// Returns when the link is lost.
pub(crate) async fn serve(ctx: Arc<NodeContext>, link: Arc<Link>, control: Channel) {
    let (mut sender, mut receiver) = control.split();
    let mut silence = SilenceClock { datagrams: 0, heard: Instant::now(), checked: Instant::now() };
    let mut changes = ctx.peers.changes();
    let mut ticks = tokio::time::interval(HEALTH_CHECK_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut beats = 0u32;
    let connection = &link.connection;
    loop {
        tokio::select! {
            stream = connection.accept_bi() => {
                let Ok((send, recv)) = stream else { break };
                ctx.spawn("stream", streams::serve(ctx.clone(), link.clone(), send, recv));
            }
            datagram = connection.read_datagram() => {
                let Ok(datagram) = datagram else { break };
                ctx.gossip.datagram(&link.peer, datagram);
            }
            heard = notice(&ctx, &link, &mut receiver) => {
                if !heard {
                    connection.close(codes::PROTOCOL, b"control stream ended");
                    break;
                }
            }
            _ = ticks.tick() => {
                check_health(&ctx, &link, &mut silence);
                let changed = changes.has_changed().unwrap_or(false);
                if changed || beats.is_multiple_of(CHECKS_PER_REPORT) {
                    changes.mark_unchanged();
                    report(&ctx, &link, &mut sender).await;
                }
                beats = beats.wrapping_add(1);
            }
        }
    }
    let reason = connection.closed().await;
    if ctx.peers.lose(&link) {
        tracing::info!(node = %ctx.node, peer = %link.peer, %reason, "link lost");
    }
}

/// One notice; false when there will be no more.
async fn notice(ctx: &NodeContext, link: &Link, receiver: &mut Receiver) -> bool {
    let Ok(Some(frame)) = receiver.recv_up_to(HEADER_BYTES_MAX).await else { return false };
    match Notice::from_bytes(&frame) {
        Ok(Notice::Links(links)) => ctx.peers.reported(link, links),
        // Of a later version, or a hello repeated.
        Ok(_) => {}
        Err(error) => {
            tracing::warn!(node = %ctx.node, peer = %link.peer, %error, "malformed notice");
            return false;
        }
    }
    true
}

fn check_health(ctx: &NodeContext, link: &Link, silence: &mut SilenceClock) {
    let datagrams = link.connection.stats().udp_rx.datagrams;
    let healthy = silence.silence(datagrams, Instant::now()) < ctx.timings.link_silent;
    if link.set_healthy(healthy) != healthy {
        tracing::info!(node = %ctx.node, peer = %link.peer, healthy, "link");
        ctx.peers.notify_change();
    }
}

/// Tells the peer our links; a peer that does not read its notices misses one.
async fn report(ctx: &NodeContext, link: &Link, sender: &mut Sender) {
    let notice = Notice::Links(ctx.peers.report(&link.peer)).to_bytes();
    let _ = tokio::time::timeout(REPORT_TIMEOUT, sender.send(notice)).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_counted_only_while_this_node_is_awake() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut silence = SilenceClock { datagrams: 0, heard: start, checked: start };
        assert_eq!(silence.silence(0, at(100)), Duration::from_millis(100));
        assert_eq!(silence.silence(0, at(200)), Duration::from_millis(200));
        // It stood still for ten seconds.
        assert_eq!(silence.silence(0, at(10_200)), Duration::from_millis(200));
        assert_eq!(silence.silence(0, at(10_300)), Duration::from_millis(300));
        assert_eq!(silence.silence(1, at(10_400)), Duration::ZERO);
    }
}
