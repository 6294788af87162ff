//! The conditions between regions: which pairs are cut, how long a datagram travels, how many are
//! lost.
//!
//! One table for all nodes of a process, shared and changed while they run. Regions are named by
//! their numbers.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// The fate of one datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It arrives after this time.
    Arrives(Duration),
    /// It is lost.
    Lost,
}

/// The shared table. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Conditions {
    shared: Arc<Shared>,
}

struct Shared {
    /// Nothing is cut or lossy, so a received datagram need not be looked up.
    clear: AtomicBool,
    table: RwLock<Table>,
    dice: Mutex<StdRng>,
}

#[derive(Default)]
struct Table {
    /// The region of each address, and under which registration: a stale one must not remove its
    /// successor.
    places: HashMap<SocketAddr, (u16, u64)>,
    registrations: u64,
    links: HashMap<(u16, u16), Link>,
}

/// Between two regions, the same both ways.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Link {
    /// Cut: nothing arrives.
    pub cut: bool,
    /// One way. Obeyed only by a [`crate::ConditionedNet`] with delays.
    pub delay: Duration,
    /// Share of datagrams lost, 0..=1, each drawn independently.
    pub loss: f64,
}

fn pair(a: u16, b: u16) -> (u16, u16) {
    (a.min(b), a.max(b))
}

impl Conditions {
    /// Nothing cut, delayed or lost. Losses are drawn from `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            shared: Arc::new(Shared {
                clear: AtomicBool::new(true),
                table: RwLock::default(),
                dice: Mutex::new(StdRng::seed_from_u64(seed)),
            }),
        }
    }

    /// Lets nothing through between `a` and `b`, until [`Conditions::heal`].
    pub fn cut(&self, a: u16, b: u16) {
        self.change(a, b, |link| link.cut = true);
    }

    /// Ends a cut. Delay and loss stay as they were.
    pub fn heal(&self, a: u16, b: u16) {
        self.change(a, b, |link| link.cut = false);
    }

    /// Sets the one-way delay between `a` and `b`, from the next datagram on.
    pub fn set_delay(&self, a: u16, b: u16, delay: Duration) {
        self.change(a, b, |link| link.delay = delay);
    }

    /// Sets the share of datagrams lost between `a` and `b`, clamped to 0..=1.
    pub fn set_loss(&self, a: u16, b: u16, loss: f64) {
        self.change(a, b, |link| link.loss = loss.clamp(0.0, 1.0));
    }

    /// The conditions between `a` and `b`.
    #[must_use]
    pub fn link(&self, a: u16, b: u16) -> Link {
        self.read(|table| table.links.get(&pair(a, b)).copied().unwrap_or_default())
    }

    /// The region of an address that [`Conditions::place`] has registered.
    #[must_use]
    pub fn region_of(&self, addr: SocketAddr) -> Option<u16> {
        self.read(|table| table.places.get(&addr).map(|(region, _)| *region))
    }

    /// Registers `addr` in `region` for as long as the returned gate lives.
    #[must_use]
    pub fn place(&self, addr: SocketAddr, region: u16) -> Gate {
        let mut table = self.shared.table.write().unwrap_or_else(PoisonError::into_inner);
        table.registrations += 1;
        let registration = table.registrations;
        table.places.insert(addr, (region, registration));
        Gate { conditions: self.clone(), addr, region, registration }
    }

    /// Decides the fate of one datagram from `region` to an address. Inside a region, and to an
    /// unregistered address, it arrives at once.
    #[must_use]
    pub fn fate(&self, region: u16, other: SocketAddr) -> Fate {
        let link = self.read(|table| {
            let (other, _) = *table.places.get(&other)?;
            table.links.get(&pair(region, other)).copied()
        });
        let Some(link) = link else { return Fate::Arrives(Duration::ZERO) };
        if link.cut || (link.loss > 0.0 && self.draw() < link.loss) {
            return Fate::Lost;
        }
        Fate::Arrives(link.delay)
    }

    fn draw(&self) -> f64 {
        self.shared.dice.lock().unwrap_or_else(PoisonError::into_inner).random()
    }

    fn read<T>(&self, look: impl FnOnce(&Table) -> T) -> T {
        look(&self.shared.table.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn change(&self, a: u16, b: u16, change: impl FnOnce(&mut Link)) {
        let mut table = self.shared.table.write().unwrap_or_else(PoisonError::into_inner);
        change(table.links.entry(pair(a, b)).or_default());
        let clear = table.links.values().all(|link| !link.cut && link.loss == 0.0);
        self.shared.clear.store(clear, Ordering::Release);
    }
}

impl std::fmt::Debug for Conditions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.read(|table| {
            f.debug_struct("Conditions").field("links", &table.links).finish_non_exhaustive()
        })
    }
}

/// A socket's entry in the table, removed when dropped.
#[derive(Debug)]
pub struct Gate {
    conditions: Conditions,
    addr: SocketAddr,
    region: u16,
    registration: u64,
}

impl Gate {
    /// Whether a datagram from there may be received here. It draws the loss, so ask once for each.
    #[must_use]
    pub fn passes(&self, from: SocketAddr) -> bool {
        self.conditions.shared.clear.load(Ordering::Acquire)
            || self.conditions.fate(self.region, from) != Fate::Lost
    }

    /// Whether the pair is cut, for datagrams whose losses were drawn when they were sent.
    #[must_use]
    pub fn is_cut(&self, from: SocketAddr) -> bool {
        if self.conditions.shared.clear.load(Ordering::Acquire) {
            return false;
        }
        self.conditions
            .region_of(from)
            .is_some_and(|other| self.conditions.link(self.region, other).cut)
    }

    #[must_use]
    pub fn conditions(&self) -> &Conditions {
        &self.conditions
    }

    #[must_use]
    pub fn region(&self) -> u16 {
        self.region
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        let mut table =
            self.conditions.shared.table.write().unwrap_or_else(PoisonError::into_inner);
        if table
            .places
            .get(&self.addr)
            .is_some_and(|(_, registration)| *registration == self.registration)
        {
            table.places.remove(&self.addr);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    #[test]
    fn a_cut_holds_both_ways_until_it_heals_and_keeps_the_delay() {
        let weather = Conditions::new(1);
        let (one, two) = (weather.place(addr(1), 1), weather.place(addr(2), 2));
        weather.set_delay(2, 1, Duration::from_millis(40));
        weather.cut(1, 2);
        assert!(!one.passes(addr(2)) && !two.passes(addr(1)) && one.is_cut(addr(2)));
        assert_eq!(weather.fate(1, addr(2)), Fate::Lost);
        weather.heal(2, 1);
        assert!(one.passes(addr(2)) && two.passes(addr(1)) && !one.is_cut(addr(2)));
        assert_eq!(weather.fate(1, addr(2)), Fate::Arrives(Duration::from_millis(40)));
    }

    #[test]
    fn inside_a_region_and_from_strangers_all_passes() {
        let weather = Conditions::new(1);
        let (one, _same) = (weather.place(addr(1), 1), weather.place(addr(2), 1));
        weather.cut(1, 2);
        assert!(one.passes(addr(2)) && one.passes(addr(99)));
    }

    #[test]
    fn losses_follow_the_seed() {
        let drawn = |seed| {
            let weather = Conditions::new(seed);
            let (one, _two) = (weather.place(addr(1), 1), weather.place(addr(2), 2));
            weather.set_loss(1, 2, 0.3);
            (0..1000).map(|_| one.passes(addr(2))).collect::<Vec<_>>()
        };
        assert_eq!(drawn(7), drawn(7));
        assert_ne!(drawn(7), drawn(8));
        let lost = drawn(7).iter().filter(|passed| !**passed).count();
        assert!((200..400).contains(&lost), "{lost} of 1000 at 30 %");
    }

    #[test]
    fn a_late_drop_of_an_old_socket_does_not_forget_the_new_one_on_its_port() {
        let weather = Conditions::new(1);
        let old = weather.place(addr(1), 1);
        let _new = weather.place(addr(1), 2);
        drop(old);
        assert_eq!(weather.region_of(addr(1)), Some(2));
    }
}
