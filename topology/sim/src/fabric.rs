//! The network between the machines: carries what their kernels send, as late as the world says,
//! unless it is cut or lost. Everything that leaves a machine goes into the hash of the run.
//!
//! Datagrams are lost, segments of TCP are held until a cut heals: the kernel below would send them
//! again for as long.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use turmoil_net::{EnterGuard, HostId, KernelConfig, Net, Packet, Transport};
use wire::RegionId;
use xxhash_rust::xxh3::Xxh3;

/// Segments held by one cut; more are dropped, which breaks the connection.
const HELD_MAX: usize = 4_096;
/// TCP's retransmission timeout: longer than any round trip of a world.
const RETRANSMIT_DELAY: Duration = Duration::from_millis(900);
/// Attempts before TCP closes the connection.
const RETRANSMITS_MAX: u32 = 12;

/// The way from one region to another, one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Way {
    /// Nothing arrives.
    pub is_cut: bool,
    /// Delay.
    pub delay: Duration,
    /// Share of lost datagrams.
    pub loss: f64,
}

pub struct Fabric {
    guard: EnterGuard,
    now: Duration,
    places: BTreeMap<IpAddr, RegionId>,
    ways: BTreeMap<(RegionId, RegionId), Way>,
    dark: BTreeSet<IpAddr>,
    travelling: BinaryHeap<Reverse<Parcel>>,
    /// Due time of the last segment between two machines: later ones never arrive earlier.
    last_due: BTreeMap<(IpAddr, IpAddr), Duration>,
    held: BTreeMap<(RegionId, RegionId), VecDeque<Packet>>,
    sent: u64,
    rng: SmallRng,
    hash: Xxh3,
    leaving: Vec<Packet>,
}

struct Parcel {
    due: Duration,
    n: u64,
    packet: Packet,
}

impl Fabric {
    /// A fabric of these machines, each in its region, with nothing in flight.
    pub fn new(seed: u64, machines: &[(IpAddr, RegionId)], tick: Duration) -> (Self, Vec<HostId>) {
        let passes = u32::try_from(RETRANSMIT_DELAY.as_millis() / tick.as_millis().max(1))
            .unwrap_or(u32::MAX)
            .max(3);
        let config = KernelConfig::default().retx_threshold(passes).retx_max(RETRANSMITS_MAX);
        let mut net = Net::with_config(config);
        let hosts = machines.iter().map(|(ip, _)| net.add_host(*ip)).collect();
        let fabric = Self {
            guard: net.enter(),
            now: Duration::ZERO,
            places: machines.iter().copied().collect(),
            ways: BTreeMap::new(),
            dark: BTreeSet::new(),
            travelling: BinaryHeap::new(),
            last_due: BTreeMap::new(),
            held: BTreeMap::new(),
            sent: 0,
            rng: SmallRng::seed_from_u64(seed),
            hash: Xxh3::new(),
            leaving: Vec::new(),
        };
        (fabric, hosts)
    }

    /// Makes this machine's kernel current.
    pub fn set_current(&self, host: HostId) {
        self.guard.set_current(host);
    }

    /// Changes the way from `a` to `b`. Segments held by a cut continue when it heals.
    pub fn change_way(&mut self, a: RegionId, b: RegionId, change: impl FnOnce(&mut Way)) {
        let way = self.ways.entry((a, b)).or_default();
        change(way);
        if !way.is_cut {
            for packet in self.held.remove(&(a, b)).unwrap_or_default() {
                self.inject(packet);
            }
        }
    }

    /// Disconnects this machine from the network, or connects it again.
    pub fn set_dark(&mut self, machine: IpAddr, is_dark: bool) {
        if is_dark {
            self.dark.insert(machine);
        } else {
            self.dark.remove(&machine);
        }
    }

    /// Adds other bytes than packets to the hash: the clients' view, the faults.
    pub fn note(&mut self, bytes: &[u8]) {
        self.hash.update(bytes);
    }

    /// The hash so far.
    #[must_use]
    pub fn digest(&self) -> u64 {
        self.hash.digest()
    }

    /// Number of packets sent by machines.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// Sets the time, and delivers due packets to the machines' kernels.
    pub fn deliver_until(&mut self, now: Duration) {
        self.now = now;
        while self.travelling.peek().is_some_and(|Reverse(parcel)| parcel.due <= now) {
            let Some(Reverse(Parcel { packet, .. })) = self.travelling.pop() else { return };
            if self.is_dark(&packet) {
                continue;
            }
            let ends = self.ends(&packet);
            if ends.is_some_and(|ends| self.ways.get(&ends).is_some_and(|way| way.is_cut)) {
                self.hold(packet);
            } else {
                self.guard.deliver(packet);
            }
        }
    }

    /// Takes outgoing packets from the machines' kernels.
    pub fn collect(&mut self) {
        let mut leaving = std::mem::take(&mut self.leaving);
        self.guard.egress_all(&mut leaving);
        for packet in leaving.drain(..) {
            self.sent += 1;
            self.witness(&packet);
            if !self.is_dark(&packet) {
                self.inject(packet);
            }
        }
        self.leaving = leaving;
    }

    fn is_dark(&self, packet: &Packet) -> bool {
        !self.dark.is_empty()
            && (self.dark.contains(&packet.src) || self.dark.contains(&packet.dst))
    }

    /// From which region to which, unless it stays in one.
    fn ends(&self, packet: &Packet) -> Option<(RegionId, RegionId)> {
        let (from, to) = (*self.places.get(&packet.src)?, *self.places.get(&packet.dst)?);
        (from != to).then_some((from, to))
    }

    fn inject(&mut self, packet: Packet) {
        let way =
            self.ends(&packet).and_then(|ends| self.ways.get(&ends).copied()).unwrap_or_default();
        if way.is_cut {
            return self.hold(packet);
        }
        let is_datagram = matches!(packet.payload, Transport::Udp(_));
        if is_datagram && way.loss > 0.0 && self.rng.random::<f64>() < way.loss {
            return;
        }
        let last = self.last_due.entry((packet.src, packet.dst)).or_default();
        let due = (self.now + way.delay).max(*last);
        *last = due;
        self.travelling.push(Reverse(Parcel { due, n: self.sent, packet }));
        // Two parcels of one step need different numbers.
        self.sent += 1;
    }

    fn hold(&mut self, packet: Packet) {
        if matches!(packet.payload, Transport::Udp(_)) {
            return;
        }
        let Some(ends) = self.ends(&packet) else { return };
        let held = self.held.entry(ends).or_default();
        if held.len() < HELD_MAX {
            held.push_back(packet);
        }
    }

    fn witness(&mut self, packet: &Packet) {
        let hash = &mut self.hash;
        let (protocol, from, to, payload) = match &packet.payload {
            Transport::Udp(datagram) => {
                (17_u8, datagram.src_port, datagram.dst_port, &datagram.payload)
            }
            Transport::Tcp(segment) => {
                hash.update(&segment.seq.to_be_bytes());
                hash.update(&segment.ack.to_be_bytes());
                (6, segment.src_port, segment.dst_port, &segment.payload)
            }
        };
        hash.update(&u64::try_from(self.now.as_micros()).unwrap_or(u64::MAX).to_be_bytes());
        for end in [SocketAddr::new(packet.src, from), SocketAddr::new(packet.dst, to)] {
            match end.ip() {
                IpAddr::V4(ip) => hash.update(&ip.octets()),
                IpAddr::V6(ip) => hash.update(&ip.octets()),
            }
            hash.update(&end.port().to_be_bytes());
        }
        hash.update(&[protocol]);
        hash.update(payload);
    }
}

impl PartialEq for Parcel {
    fn eq(&self, other: &Self) -> bool {
        (self.due, self.n) == (other.due, other.n)
    }
}

impl Eq for Parcel {}

impl PartialOrd for Parcel {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Parcel {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.due, self.n).cmp(&(other.due, other.n))
    }
}
