//! Streams that a peer opens on a link: each begins with a head that says what it is.

use std::sync::Arc;
use std::time::Duration;

use quinn::{RecvStream, SendStream};
use tokio::time::timeout;
use wire::codec::CodecError;
use wire::stream::{HEADER_BYTES_MAX, StreamHeader};

use crate::channel::Channel;
use crate::codes;
use crate::context::NodeContext;
use crate::link::Link;
use crate::relay;

/// A stream whose head has not come within this is reset.
pub(crate) const HEADER_TIMEOUT: Duration = Duration::from_secs(5);

/// Reads the head of one stream and sends it where it belongs. Whatever is wrong with it resets
/// this stream only.
pub(crate) async fn serve(
    ctx: Arc<NodeContext>,
    link: Arc<Link>,
    send: SendStream,
    recv: RecvStream,
) {
    let mut channel = Channel::direct(link.peer.clone(), send, recv, Some(link.hold()));
    let refusal = match timeout(HEADER_TIMEOUT, read_header(&mut channel)).await {
        Ok(Ok(StreamHeader::Open { purpose, features })) => {
            let channel = channel.with_features(Some(ctx.features.shared_with(&features)));
            return ctx.arrive((link.peer.clone(), purpose, channel));
        }
        Ok(Ok(StreamHeader::Relay(target))) => {
            return relay::carry(&ctx, &link, &target, channel).await;
        }
        Ok(Ok(StreamHeader::Relayed(origin))) => {
            return relay::land(&ctx, &link, &origin, channel).await;
        }
        Ok(Ok(StreamHeader::Unknown(_))) => codes::UNSUPPORTED,
        Ok(Ok(StreamHeader::Control)) | Err(_) => codes::PROTOCOL,
        Ok(Err(_)) => codes::MALFORMED,
    };
    let (node, peer, why) = (&ctx.node, &link.peer, codes::name(refusal));
    tracing::warn!(%node, %peer, why, "refused a stream");
    channel.refuse(refusal);
}

/// The head of a stream: its first frame.
pub(crate) async fn read_header(channel: &mut Channel) -> Result<StreamHeader, CodecError> {
    match channel.halves().1.recv_up_to(HEADER_BYTES_MAX).await {
        Ok(Some(frame)) => StreamHeader::from_bytes(&frame),
        Ok(None) | Err(_) => Err(CodecError::Short),
    }
}
