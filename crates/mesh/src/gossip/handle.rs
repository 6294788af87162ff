//! How the rest of a node feeds the task of its gossip.

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use wire::NodeId;

/// Events that wait for the gossip's task; one more datagram is dropped, as the network may.
const EVENTS_MAX: usize = 1024;

pub(crate) enum Event {
    Datagram { from: NodeId, datagram: Bytes },
    LinkUp(NodeId),
    Leave(oneshot::Sender<()>),
}

/// Feeds the gossip's task.
#[derive(Clone)]
pub(crate) struct GossipHandle {
    events: mpsc::Sender<Event>,
}

impl GossipHandle {
    pub(crate) fn new() -> (Self, mpsc::Receiver<Event>) {
        let (events, received) = mpsc::channel(EVENTS_MAX);
        (Self { events }, received)
    }

    /// Full: dropped.
    pub(crate) fn datagram(&self, from: &NodeId, datagram: Bytes) {
        let _ = self.events.try_send(Event::Datagram { from: from.clone(), datagram });
    }

    /// Full: the next announcement does it.
    pub(crate) fn link_up(&self, peer: &NodeId) {
        let _ = self.events.try_send(Event::LinkUp(peer.clone()));
    }

    /// Tells the others that this node leaves. Done when the datagrams are with the transport.
    pub(crate) async fn leave(&self) {
        let (done, left) = oneshot::channel();
        if self.events.send(Event::Leave(done)).await.is_ok() {
            let _ = left.await;
        }
    }
}
