//! Nodes that lie, and streams that are garbage: each against a node that runs as in production.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use quinn::{ClientConfig, Connection, ConnectionError, Endpoint, ReadError, TokioRuntime, VarInt};
use tokio::time::timeout;
use wire::NodeId;
use wire::codec::Unknown;
use wire::stream::{Hello, Notice, Purpose, StreamHeader};
use wire::version::Features;

use crate::ca::MeshCa;
use crate::channel::Channel;
use crate::error::{RecvError, SendError};
use crate::node::Mesh;
use crate::options::{MeshOptions, Timings};
use crate::socket::{self, Mute};
use crate::tls::{SERVER_NAME, Tls};
use crate::{codes, handshake, transport};

const DEADLINE: Duration = Duration::from_secs(30);

fn node(name: &str) -> NodeId {
    name.parse().unwrap()
}

fn open(purpose: Purpose) -> StreamHeader {
    StreamHeader::Open { purpose, features: Features::all() }
}

fn start(ca: &MeshCa, name: &str) -> Mesh {
    let identity = ca.issue(&node(name)).unwrap();
    let options = MeshOptions::new(
        node(name),
        identity,
        "127.0.0.1:0".parse().unwrap(),
        Arc::new(net::OsNet),
    );
    Mesh::start(options).unwrap()
}

/// A peer made by hand: it has a certificate, and says what it likes.
struct Rogue {
    name: NodeId,
    endpoint: Endpoint,
    connection: Connection,
}

impl Rogue {
    async fn connect(ca: &MeshCa, name: &str, to: &Mesh) -> Result<Self, ConnectionError> {
        let tls = Tls::new(&node(name), ca.issue(&node(name)).unwrap()).unwrap();
        let udp = net::Net::udp(&net::OsNet, "127.0.0.1:0".parse().unwrap()).unwrap();
        let socket = socket::wrap(udp, Mute::default()).unwrap();
        let config = transport::endpoint(&[1; 32], 1, 1);
        let endpoint =
            Endpoint::new_with_abstract_socket(config, None, socket, Arc::new(TokioRuntime))
                .unwrap();
        let mut config = ClientConfig::new(Arc::new(tls.quic_client(to.node()).unwrap()));
        config.transport_config(transport::transport(&Timings::default()));
        let connection =
            endpoint.connect_with(config, to.local_addr(), SERVER_NAME).unwrap().await?;
        Ok(Self { name: node(name), endpoint, connection })
    }

    /// Says hello as somebody; the control stream must be kept.
    async fn say_hello_as(&self, claimed: &NodeId) -> Channel {
        let (send, recv) = self.connection.open_bi().await.unwrap();
        let mut control = Channel::direct(node("r9/core/9"), send, recv, None);
        let hello = Hello {
            node: claimed.clone(),
            features: Features::default(),
            draining: false,
            incarnation: 1,
            addr: self.endpoint.local_addr().unwrap(),
            connection: 1,
            lost: None,
        };
        handshake::send_hello(&mut control, Some(&StreamHeader::Control), hello).await.unwrap();
        control
    }

    async fn shaken_hands(ca: &MeshCa, name: &str, to: &Mesh) -> (Self, Channel) {
        let rogue = Self::connect(ca, name, to).await.unwrap();
        let mut control = rogue.say_hello_as(&rogue.name).await;
        let reply = timeout(DEADLINE, handshake::recv_frame(&mut control)).await.unwrap().unwrap();
        let Ok(Notice::Hello(hello)) = Notice::from_bytes(&reply) else { panic!("no hello") };
        assert_eq!(hello.node, *to.node());
        (rogue, control)
    }

    /// Opens a stream with these bytes, and tells how it ended.
    async fn stream(&self, bytes: &[u8]) -> ReadError {
        let (mut send, mut recv) = self.connection.open_bi().await.unwrap();
        send.write_all(bytes).await.unwrap();
        timeout(DEADLINE, recv.read_chunk(1, true)).await.unwrap().unwrap_err()
    }

    /// An honest channel on the same connection.
    async fn opens(&self, mesh: &Mesh) -> (Channel, Channel) {
        let (send, recv) = self.connection.open_bi().await.unwrap();
        let mut channel = Channel::direct(mesh.node().clone(), send, recv, None);
        channel.halves().0.send(open(Purpose::Control).to_bytes()).await.unwrap();
        let (from, purpose, arrived) = timeout(DEADLINE, mesh.accept()).await.unwrap().unwrap();
        assert_eq!((from, purpose), (self.name.clone(), Purpose::Control));
        (channel, arrived)
    }
}

#[tokio::test]
async fn a_task_of_the_mesh_that_panics_is_named() {
    let mesh = start(&MeshCa::create().unwrap(), "r1/core/1");
    mesh.ctx().spawn("unlucky", async { panic!("as planned") });
    while mesh.panicked().is_empty() {
        tokio::task::yield_now().await;
    }
    assert_eq!(mesh.panicked(), ["unlucky"]);
}

#[tokio::test]
async fn a_claim_that_differs_from_the_certificate_closes_the_connection_and_says_why() {
    let ca = MeshCa::create().unwrap();
    let mesh = start(&ca, "r1/core/1");
    for claimed in ["r2/core/7", "r1/edge/7", "r1/core/8"] {
        let rogue = Rogue::connect(&ca, "r1/core/7", &mesh).await.unwrap();
        let _control = rogue.say_hello_as(&node(claimed)).await;
        match timeout(DEADLINE, rogue.connection.closed()).await.unwrap() {
            ConnectionError::ApplicationClosed(close) => {
                let why = String::from_utf8_lossy(&close.reason).into_owned();
                assert_eq!(close.error_code, codes::CLAIM);
                assert!(why.contains(claimed) && why.contains("r1/core/7"), "{why}");
            }
            other => panic!("{other}"),
        }
    }
    assert!(mesh.links().is_empty() && mesh.membership().borrow().nodes.len() == 1);
}

#[tokio::test]
async fn a_certificate_of_another_authority_is_refused_on_both_sides() {
    let (ours, theirs) = (MeshCa::create().unwrap(), MeshCa::create().unwrap());
    let mesh = start(&ours, "r1/core/1");
    // The dialler refuses the acceptor.
    assert!(matches!(
        Rogue::connect(&theirs, "r2/core/1", &mesh).await,
        Err(ConnectionError::TransportError(_))
    ));
    // The acceptor refuses a dialler that trusts it.
    let both = MixedIdentity { issued_by: &theirs, trusts: &ours };
    let closed = both.dial(&mesh).await;
    assert!(matches!(closed, ConnectionError::ConnectionClosed(_)), "{closed}");
    assert!(mesh.links().is_empty());
}

/// A certificate of one authority, and trust in another.
struct MixedIdentity<'a> {
    issued_by: &'a MeshCa,
    trusts: &'a MeshCa,
}

impl MixedIdentity<'_> {
    async fn dial(&self, to: &Mesh) -> ConnectionError {
        let me = node("r2/core/1");
        let mut identity = self.issued_by.issue(&me).unwrap();
        identity.authorities = self.trusts.issue(&me).unwrap().authorities;
        let tls = Tls::new(&me, identity).unwrap();
        let endpoint = Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
        let config = ClientConfig::new(Arc::new(tls.quic_client(to.node()).unwrap()));
        match endpoint.connect_with(config, to.local_addr(), SERVER_NAME).unwrap().await {
            // The client's half of the handshake ends before the server has seen its certificate.
            Ok(connection) => timeout(DEADLINE, connection.closed()).await.unwrap(),
            Err(error) => error,
        }
    }
}

#[tokio::test]
async fn whoever_answers_in_place_of_the_dialled_node_gets_no_link() {
    let ca = MeshCa::create().unwrap();
    let (mesh, other) = (start(&ca, "r1/core/1"), start(&ca, "r1/core/5"));
    mesh.add_peer(&node("r1/core/6"), other.local_addr());
    let mut links = mesh.membership();
    let error = mesh.open(&node("r1/core/6"), Purpose::Control).await.unwrap_err();
    assert!(error.to_string().contains("r1/core/5"), "{error}");
    assert!(!links.borrow_and_update().is_alive(&node("r1/core/6")));
}

#[tokio::test]
async fn a_node_does_not_start_with_the_certificate_of_another() {
    let ca = MeshCa::create().unwrap();
    let identity = ca.issue(&node("r1/core/2")).unwrap();
    let options = MeshOptions::new(
        node("r1/core/1"),
        identity,
        "127.0.0.1:0".parse().unwrap(),
        Arc::new(net::OsNet),
    );
    let error = Mesh::start(options).unwrap_err().to_string();
    assert!(error.contains("r1/core/1") && error.contains("r1/core/2"), "{error}");
}

#[tokio::test]
async fn garbage_on_a_stream_resets_that_stream_and_no_other() {
    let ca = MeshCa::create().unwrap();
    let mesh = start(&ca, "r1/core/1");
    let (rogue, _control) = Rogue::shaken_hands(&ca, "r2/core/7", &mesh).await;
    let (honest, arrived) = rogue.opens(&mesh).await;
    let framed = |bytes: &[u8]| [&(bytes.len() as u32).to_be_bytes()[..], bytes].concat();
    for (bytes, code) in [
        (vec![0xff; 64], codes::MALFORMED),
        (framed(&[0, 2, 0, 0xff, 0xff]), codes::MALFORMED),
        (framed(&[]), codes::MALFORMED),
        (framed(&[99, 1, 2, 3]), codes::UNSUPPORTED),
        (framed(&open(Purpose::Unknown(Unknown::new(99, vec![1]))).to_bytes()), codes::PURPOSE),
        (framed(&StreamHeader::Control.to_bytes()), codes::PROTOCOL),
        (framed(&StreamHeader::Relay(node("r3/core/1")).to_bytes()), codes::NO_ROUTE),
        (framed(&StreamHeader::Relay(node("r2/core/7")).to_bytes()), codes::NO_ROUTE),
    ] {
        assert_eq!(rogue.stream(&bytes).await, ReadError::Reset(code), "{bytes:?}");
    }
    // What comes "through a relay" and is no TLS ends, whatever it is.
    let relayed =
        [framed(&StreamHeader::Relayed(node("r3/core/1")).to_bytes()), vec![0x55; 500]].concat();
    let ended = timeout(DEADLINE, async {
        let (mut send, mut recv) = rogue.connection.open_bi().await.unwrap();
        send.write_all(&relayed).await.unwrap();
        while let Ok(Some(_)) = recv.read_chunk(1000, true).await {}
    });
    ended.await.expect("an end");

    let (mut to, mut from) = (honest.split().0, arrived.split().1);
    to.send(Bytes::from_static(b"unharmed")).await.unwrap();
    assert_eq!(
        timeout(DEADLINE, from.recv()).await.unwrap().unwrap().as_deref(),
        Some(&b"unharmed"[..])
    );
}

#[tokio::test]
async fn an_oversize_frame_stops_its_channel_only_and_is_told_to_both() {
    let ca = MeshCa::create().unwrap();
    let mesh = start(&ca, "r1/core/1");
    let (rogue, _control) = Rogue::shaken_hands(&ca, "r2/core/7", &mesh).await;
    let (channel, arrived) = rogue.opens(&mesh).await;
    let mut raw = channel.into_raw().unwrap();
    raw.send.write_all(&[0x7f, 0xff, 0xff, 0xff, 1, 2, 3]).await.unwrap();
    let (_sender, mut receiver) = arrived.split();
    let error = timeout(DEADLINE, receiver.recv()).await.unwrap().unwrap_err();
    assert_eq!(error, RecvError::TooLarge(0x7fff_ffff));
    assert_eq!(
        timeout(DEADLINE, raw.send.stopped()).await.unwrap().unwrap(),
        Some(codes::MALFORMED)
    );
    // A frame that is cut short is told from a clean end.
    let (channel, arrived) = rogue.opens(&mesh).await;
    let mut raw = channel.into_raw().unwrap();
    raw.send.write_all(&[0, 0, 0, 9, 1, 2, 3]).await.unwrap();
    raw.send.finish().unwrap();
    assert_eq!(
        timeout(DEADLINE, arrived.split().1.recv()).await.unwrap().unwrap_err(),
        RecvError::Torn
    );
    // And whoever sends into a stopped channel is told.
    let (channel, arrived) = rogue.opens(&mesh).await;
    channel.refuse(VarInt::from_u32(77));
    let mut sender = arrived.split().0;
    let told = async {
        loop {
            if let Err(error) = sender.send(Bytes::from_static(b"x")).await {
                return error;
            }
            tokio::task::yield_now().await;
        }
    };
    let error = timeout(DEADLINE, told).await.unwrap();
    assert!(matches!(&error, SendError::Broken(why) if why.contains("77")), "{error}");
}

#[tokio::test]
async fn gossip_in_the_name_of_another_node_is_dropped() {
    let ca = MeshCa::create().unwrap();
    let mesh = start(&ca, "r1/core/1");
    let (rogue, _control) = Rogue::shaken_hands(&ca, "r2/core/7", &mesh).await;
    let announce = |claimed: &str| {
        let member =
            |name: &str| (node(name), rogue.endpoint.local_addr().unwrap(), 1u64, 0u32, false);
        // As foca has it: source, its incarnation, destination, and the message's number
        // (announce).
        let header =
            postcard::to_stdvec(&(member(claimed), 0u16, member("r1/core/1"), 6u32)).unwrap();
        let header: foca::Header<crate::gossip::Member> = postcard::from_bytes(&header).unwrap();
        assert_eq!(header.message, foca::Message::Announce);
        Bytes::from([&b"w"[..], &postcard::to_stdvec(&header).unwrap()].concat())
    };
    rogue.connection.send_datagram(announce("r3/core/1")).unwrap();
    rogue.connection.send_datagram(Bytes::from_static(b"w garbage")).unwrap();
    rogue.connection.send_datagram(Bytes::from_static(b"?")).unwrap();
    rogue.connection.send_datagram(announce("r2/core/7")).unwrap();
    let mut membership = mesh.membership();
    let own = membership.wait_for(|now| now.is_alive(&node("r2/core/7")));
    timeout(DEADLINE, own).await.unwrap().unwrap();
    assert!(!mesh.membership().borrow().is_alive(&node("r3/core/1")));
}
