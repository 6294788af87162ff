//! Real sockets with planned cuts, delays and losses: `hearth up` runs on them.
//!
//! Without delays the mesh keeps the OS socket and its offloads, and a cut drops what is received.
//! With delays every datagram to another region waits in the sender's queue, in order for each pair
//! of regions; the queue is bounded, and a full one drops as a router does. TCP is left alone:
//! users are beside their edge.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use tokio::io::ReadBuf;
use tokio::net::UdpSocket;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::conditions::{Conditions, Fate, Gate};
use crate::os::{OsNet, udp_socket};
use crate::{Listener, Net, Stream, Udp, VirtualUdp};

/// Datagrams that wait to leave one socket; more are dropped. 16 Ki of 1,200 bytes in 100 ms are
/// 1.5 Gbit/s.
const IN_FLIGHT_MAX: usize = 16 * 1024;

/// The sockets of the nodes of one region.
#[derive(Clone, Debug)]
pub struct ConditionedNet {
    conditions: Conditions,
    region: u16,
    delays: bool,
}

impl ConditionedNet {
    /// For nodes of `region`. With `delays` they obey the delays of the table, too; otherwise only
    /// cuts and losses.
    #[must_use]
    pub fn new(conditions: Conditions, region: u16, delays: bool) -> Self {
        Self { conditions, region, delays }
    }
}

#[async_trait::async_trait]
impl Net for ConditionedNet {
    fn udp(&self, bind: SocketAddr) -> io::Result<Udp> {
        let socket = udp_socket(bind)?;
        let gate = self.conditions.place(socket.local_addr()?, self.region);
        if self.delays {
            return Ok(Udp::Virtual(Box::new(DelayedUdp::start(socket, gate)?)));
        }
        Ok(Udp::Os { socket, gate: Some(gate) })
    }

    async fn listen(&self, bind: SocketAddr) -> io::Result<Listener> {
        OsNet.listen(bind).await
    }

    async fn connect(&self, to: SocketAddr) -> io::Result<Stream> {
        OsNet.connect(to).await
    }

    async fn lookup(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        OsNet.lookup(host, port).await
    }
}

/// A socket whose datagrams to other regions are delayed. Its one task ends with it.
#[derive(Debug)]
struct DelayedUdp {
    socket: Arc<UdpSocket>,
    gate: Gate,
    queue: Arc<Queue>,
    carrier: tokio::task::JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Queue {
    parcels: Mutex<Parcels>,
    /// Notified when a datagram is due before all others.
    sooner: Notify,
}

#[derive(Debug, Default)]
struct Parcels {
    heap: BinaryHeap<Reverse<Parcel>>,
    /// When the last datagram to each region is due. A later one is never due before it.
    last_due: HashMap<u16, Instant>,
    sent: u64,
}

/// Ordered by due time, then by send time.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Parcel {
    due: Instant,
    n: u64,
    to: SocketAddr,
    datagram: Box<[u8]>,
}

impl Parcels {
    /// Adds a datagram, unless full. Returns whether it is the first one due.
    fn push(&mut self, region: u16, due: Instant, to: SocketAddr, datagram: &[u8]) -> bool {
        if self.heap.len() >= IN_FLIGHT_MAX {
            return false;
        }
        let last = self.last_due.entry(region).or_insert(due);
        *last = due.max(*last);
        let due = *last;
        self.sent += 1;
        let first = self.heap.peek().is_none_or(|Reverse(parcel)| due < parcel.due);
        self.heap.push(Reverse(Parcel { due, n: self.sent, to, datagram: datagram.into() }));
        first
    }

    fn pop_due(&mut self, now: Instant) -> Option<Parcel> {
        if self.heap.peek()?.0.due > now {
            return None;
        }
        self.heap.pop().map(|Reverse(parcel)| parcel)
    }
}

impl Queue {
    fn lock(&self) -> std::sync::MutexGuard<'_, Parcels> {
        self.parcels.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl DelayedUdp {
    fn start(socket: std::net::UdpSocket, gate: Gate) -> io::Result<Self> {
        let socket = Arc::new(UdpSocket::from_std(socket)?);
        let queue = Arc::new(Queue::default());
        let carrier = tokio::spawn(carry(socket.clone(), queue.clone()));
        Ok(Self { socket, gate, queue, carrier })
    }
}

/// Delivers due datagrams in order.
async fn carry(socket: Arc<UdpSocket>, queue: Arc<Queue>) {
    loop {
        let next = queue.lock().heap.peek().map(|Reverse(parcel)| parcel.due);
        match next {
            None => queue.sooner.notified().await,
            Some(due) => tokio::select! {
                () = tokio::time::sleep_until(due) => {}
                () = queue.sooner.notified() => continue,
            },
        }
        let now = Instant::now();
        loop {
            let parcel = queue.lock().pop_due(now);
            let Some(parcel) = parcel else { break };
            // A failed send is a lost datagram.
            let _ = socket.send_to(&parcel.datagram, parcel.to).await;
        }
    }
}

impl VirtualUdp for DelayedUdp {
    fn send(&self, to: SocketAddr, datagram: &[u8]) -> io::Result<()> {
        let conditions = self.gate.conditions();
        match conditions.fate(self.gate.region(), to) {
            Fate::Lost => {}
            Fate::Arrives(delay) => {
                // Inside the region at once; when the socket is not ready, as soon as it is.
                let direct = delay.is_zero() && self.socket.try_send_to(datagram, to).is_ok();
                if !direct {
                    let region = conditions.region_of(to).unwrap_or(self.gate.region());
                    if self.queue.lock().push(region, Instant::now() + delay, to, datagram) {
                        self.queue.sooner.notify_one();
                    }
                }
            }
        }
        Ok(())
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<(usize, SocketAddr)>> {
        loop {
            let mut read = ReadBuf::new(buf);
            match std::task::ready!(self.socket.poll_recv_from(cx, &mut read)) {
                // The sender drew the losses; a cut also drops datagrams in flight.
                Ok(from) if !self.gate.is_cut(from) => {
                    return Poll::Ready(Ok((read.filled().len(), from)));
                }
                Ok(_) => {}
                // A closed port at the other end says nothing about this socket.
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }
}

impl Drop for DelayedUdp {
    fn drop(&mut self) {
        self.carrier.abort();
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::time::Duration;

    use super::*;

    fn socket(conditions: &Conditions, region: u16) -> (Box<dyn VirtualUdp>, SocketAddr) {
        let net = ConditionedNet::new(conditions.clone(), region, true);
        let Udp::Virtual(socket) = net.udp("127.0.0.1:0".parse().unwrap()).unwrap() else {
            panic!("delays")
        };
        let addr = socket.local_addr().unwrap();
        (socket, addr)
    }

    async fn recv(socket: &dyn VirtualUdp) -> Vec<u8> {
        let mut buf = [0; 2048];
        let next = poll_fn(|cx| socket.poll_recv(cx, &mut buf));
        let (len, _) =
            tokio::time::timeout(Duration::from_secs(10), next).await.expect("in time").unwrap();
        buf[..len].to_vec()
    }

    #[tokio::test]
    async fn datagrams_to_another_region_arrive_late_and_in_order_even_when_the_delay_shrinks() {
        let weather = Conditions::new(1);
        let ((near, _), (far, to)) = (socket(&weather, 1), socket(&weather, 2));
        let start = Instant::now();
        weather.set_delay(1, 2, Duration::from_millis(80));
        near.send(to, b"first").unwrap();
        weather.set_delay(1, 2, Duration::from_millis(1));
        near.send(to, b"second").unwrap();
        assert_eq!(recv(&*far).await, b"first");
        assert!(start.elapsed() >= Duration::from_millis(80));
        assert_eq!(recv(&*far).await, b"second");
    }

    #[tokio::test]
    async fn a_cut_also_takes_what_is_under_way() {
        let weather = Conditions::new(1);
        let (far, to) = socket(&weather, 2);
        let near = udp_socket("127.0.0.1:0".parse().unwrap()).unwrap();
        let gate = weather.place(near.local_addr().unwrap(), 1);
        let near = DelayedUdp::start(near, gate).unwrap();
        weather.set_delay(1, 2, Duration::from_millis(20));
        near.send(to, b"under way").unwrap();
        weather.cut(1, 2);
        near.send(to, b"cut").unwrap();
        let arrived = async {
            while !near.queue.lock().heap.is_empty() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), arrived).await.expect("in time");
        let nothing = poll_fn(|cx| far.poll_recv(cx, &mut [0; 64]));
        assert!(tokio::time::timeout(Duration::from_millis(100), nothing).await.is_err());
        weather.heal(1, 2);
        near.send(to, b"healed").unwrap();
        assert_eq!(recv(&*far).await, b"healed");
    }

    #[test]
    fn a_full_queue_drops_the_newest() {
        let mut parcels = Parcels::default();
        let (now, to) = (Instant::now(), SocketAddr::from(([127, 0, 0, 1], 9)));
        for _ in 0..IN_FLIGHT_MAX + 10 {
            parcels.push(2, now, to, b"x");
        }
        let mut taken = Vec::new();
        while let Some(parcel) = parcels.pop_due(now) {
            taken.push(parcel.n);
        }
        assert_eq!(taken, (1..=IN_FLIGHT_MAX as u64).collect::<Vec<_>>());
    }
}
