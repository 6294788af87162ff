//! QUIC, set for a mesh: bounded windows, links that are noticed when they die, datagrams for
//! gossip.

use std::sync::Arc;
use std::time::Duration;

use quinn::{
    ConnectionId, ConnectionIdGenerator, EndpointConfig, IdleTimeout, MtuDiscoveryConfig,
    ServerConfig, TransportConfig, VarInt,
};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use ring::hmac;

use crate::options::Timings;
use crate::proof::IdentityError;
use crate::tls::Tls;

/// Bytes that one channel may have on the way to a receiver that does not read. 1 MiB in 100 ms are
/// 80 Mbit/s a shard.
pub const STREAM_WINDOW_BYTES: u32 = 1024 * 1024;
/// The same over all channels of a link.
pub const LINK_WINDOW_BYTES: u32 = 32 * 1024 * 1024;
/// Bytes that a link sends before they are acknowledged.
pub const LINK_SEND_BYTES: u64 = 16 * 1024 * 1024;
/// Channels that a peer may have open to us. One more waits in its `open`, up to the deadline
/// there.
pub const CHANNELS_PER_LINK: u32 = 1024;
/// Largest datagram of the gossip, with its tag: below what QUIC can carry in the smallest packet
/// it must always be able to send (1,200 bytes).
pub(crate) const DATAGRAM_BYTES: usize = 1100;
/// Waiting datagrams; the oldest are dropped for the newest.
const DATAGRAM_BUFFER_BYTES: usize = 256 * 1024;
/// Connections that wait to be accepted; one more is refused.
const INCOMING_MAX: usize = 256;
/// Bytes of a connection id.
const CID_BYTES: usize = 8;
/// Assumed before the first measurement: a lost first packet is repeated after three times this.
const INITIAL_RTT: Duration = Duration::from_millis(100);

/// Both directions of a link obey the shorter of the two idle timeouts.
pub(crate) fn transport(timings: &Timings) -> Arc<TransportConfig> {
    let mut config = TransportConfig::default();
    let idle = IdleTimeout::try_from(timings.link_idle).unwrap_or_else(|_| VarInt::MAX.into());
    config
        .max_idle_timeout(Some(idle))
        .keep_alive_interval(Some(timings.keep_alive))
        .initial_rtt(INITIAL_RTT)
        .max_concurrent_bidi_streams(VarInt::from_u32(CHANNELS_PER_LINK))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW_BYTES))
        .receive_window(VarInt::from_u32(LINK_WINDOW_BYTES))
        .send_window(LINK_SEND_BYTES)
        .datagram_receive_buffer_size(Some(DATAGRAM_BUFFER_BYTES))
        .datagram_send_buffer_size(DATAGRAM_BUFFER_BYTES)
        .mtu_discovery_config(Some(MtuDiscoveryConfig::default()));
    Arc::new(config)
}

/// With a reset key that a node keeps over its restarts, so that a peer of its former start is told
/// at once, and with its own randomness, so that a simulation repeats itself.
pub(crate) fn endpoint(secret: &[u8; 32], incarnation: u64, seed: u64) -> EndpointConfig {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    let derive = |what: &[u8]| {
        let mut derived = [0; 32];
        derived.copy_from_slice(hmac::sign(&key, what).as_ref());
        derived
    };
    let reset = hmac::Key::new(hmac::HMAC_SHA256, &derive(b"stateless reset"));
    let start = [&b"start"[..], &incarnation.to_be_bytes(), &seed.to_be_bytes()].concat();
    let cids = derive(&[&start[..], b"connection ids"].concat());
    let mut config = EndpointConfig::new(Arc::new(reset));
    config.cid_generator(move || Box::new(Cids(StdRng::from_seed(cids))));
    config.rng_seed(Some(derive(&start)));
    config
}

/// Random connection ids. Unlike quinn's own, any may be one of ours: so that a packet to the
/// node's former start, whose ids this one cannot know, is answered with a reset.
struct Cids(StdRng);

impl ConnectionIdGenerator for Cids {
    fn generate_cid(&mut self) -> ConnectionId {
        ConnectionId::new(&self.0.random::<[u8; CID_BYTES]>())
    }

    fn cid_len(&self) -> usize {
        CID_BYTES
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

/// A node's own secret, when none was given.
pub(crate) fn secret_of(tls: &Tls) -> [u8; 32] {
    let mut secret = [0; 32];
    let key = hmac::Key::new(hmac::HMAC_SHA256, b"hearth mesh node secret");
    secret.copy_from_slice(hmac::sign(&key, tls.key_bytes()).as_ref());
    secret
}

/// To be dialled.
pub(crate) fn server(tls: &Tls, timings: &Timings) -> Result<ServerConfig, IdentityError> {
    let mut config = ServerConfig::with_crypto(Arc::new(tls.quic_server()?));
    // Nodes do not wander: a packet from elsewhere is not theirs.
    config.transport_config(transport(timings)).max_incoming(INCOMING_MAX).migration(false);
    Ok(config)
}
