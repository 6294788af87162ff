//! Streams that a peer opens on a link: each begins with a head that says what it is.

use std::sync::Arc;
use std::time::Duration;

use quinn::{RecvStream, SendStream};
use tokio::time::timeout;

use crate::channel::Channel;
use crate::codes;
use crate::head::{HEAD_BYTES, Head, HeadError};
use crate::link::Link;
use crate::relay;
use crate::shared::Shared;

/// A stream whose head has not come within this is reset.
pub(crate) const HEAD_WITHIN: Duration = Duration::from_secs(5);

/// Reads the head of one stream and sends it where it belongs. Whatever is wrong with it resets this stream only.
pub(crate) async fn serve(
    shared: Arc<Shared>,
    link: Arc<Link>,
    send: SendStream,
    recv: RecvStream,
) {
    let mut channel = Channel::direct(link.peer.clone(), send, recv, Some(link.hold()));
    let refusal = match timeout(HEAD_WITHIN, head(&mut channel)).await {
        Ok(Ok(Head::Open(purpose))) => {
            return shared.arrive((link.peer.clone(), purpose, channel.speaking(shared.minor)));
        }
        Ok(Ok(Head::Relay(target))) => return relay::carry(&shared, &link, &target, channel).await,
        Ok(Ok(Head::Relayed(origin))) => {
            return relay::land(&shared, &link, &origin, channel).await;
        }
        Ok(Err(HeadError::Unknown(_))) => codes::UNSUPPORTED,
        Ok(Ok(Head::Control)) | Err(_) => codes::PROTOCOL,
        Ok(Err(HeadError::Malformed)) => codes::MALFORMED,
    };
    tracing::warn!(node = %shared.node, peer = %link.peer, why = codes::name(refusal), "stream refused");
    channel.refuse(refusal);
}

/// The head of a stream: its first frame.
pub(crate) async fn head(channel: &mut Channel) -> Result<Head, HeadError> {
    match channel.halves().1.recv_up_to(HEAD_BYTES).await {
        Ok(Some(frame)) => Head::from_bytes(&frame),
        Ok(None) | Err(_) => Err(HeadError::Malformed),
    }
}
