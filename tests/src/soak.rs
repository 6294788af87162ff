//! Faults drawn from a seed, one after the other, on a deployment under load: kills, pauses and
//! cuts, for as long as one wants. What is drawn depends on the seed alone; what it meets does not,
//! so a seed is a way to begin the search and no proof that it ends the same.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};
use test_cluster::Network;

use crate::deployment::{Deployment, REGIONS};
use crate::load::{Load, Outcome, Pace};

/// A fault lasts between these: shorter and longer than detection.
const FAULT_MS: std::ops::Range<u64> = 500..9_000;
/// Then so long until the next one.
const CALM_MS: std::ops::Range<u64> = 500..4_000;
/// After so many faults everything has to become whole before the next one.
const MEND_EVERY: usize = 10;

/// When it is enough.
#[derive(Clone, Copy, Debug)]
pub enum Until {
    /// So many faults.
    Faults(usize),
    /// The fault after this time is the last.
    Elapsed(Duration),
}

/// A fault. It is undone after a while.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Fault {
    /// SIGKILL of a node, by its place.
    Kill(usize),
    /// SIGSTOP of a node.
    Pause(usize),
    /// SIGTERM of a node.
    End(usize),
    /// SIGKILL of all nodes of a region.
    KillRegion(usize),
    /// SIGSTOP of all nodes of a region.
    PauseRegion(usize),
    /// SIGKILL of a region's server of the store.
    KillServer(usize),
    /// SIGSTOP of it.
    PauseServer(usize),
    /// Nothing passes between two regions.
    Cut(usize, usize, Network),
    /// A region is cut off.
    Isolate(usize),
}

/// The number of faults of each kind.
#[derive(Debug, Default)]
pub struct Done(BTreeMap<&'static str, usize>);

impl fmt::Display for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let total: usize = self.0.values().sum();
        write!(f, "{total} faults")?;
        for (n, (kind, times)) in self.0.iter().enumerate() {
            write!(f, "{} {times} {kind}", if n == 0 { ":" } else { "," })?;
        }
        Ok(())
    }
}

/// Draws and does faults until it is enough, mends everything, and gives what came of the load.
/// Says on stdout what it does.
///
/// # Panics
/// When the deployment does not become whole again, or a message is never acknowledged.
pub async fn run(deployment: &Deployment, seed: u64, until: Until) -> (Done, Outcome) {
    let mut rng = SmallRng::seed_from_u64(seed);
    let load = Load::start(deployment, Pace::default()).await;
    let (begun, mut done, mut n) = (Instant::now(), Done::default(), 0);
    let enough = |n| match until {
        Until::Faults(faults) => n >= faults,
        Until::Elapsed(time) => begun.elapsed() >= time,
    };
    while !enough(n) {
        n += 1;
        let fault = draw(&mut rng, deployment);
        let lasts = Duration::from_millis(rng.random_range(FAULT_MS));
        let calm = Duration::from_millis(rng.random_range(CALM_MS));
        println!(
            "{:>7.1} s  {n:>4}  {} for {lasts:.1?}",
            begun.elapsed().as_secs_f64(),
            fault.named(deployment)
        );
        fault.begin(deployment);
        tokio::time::sleep(lasts).await;
        fault.end(deployment);
        *done.0.entry(fault.kind()).or_default() += 1;
        tokio::time::sleep(calm).await;
        if n.is_multiple_of(MEND_EVERY) {
            deployment.mend().await;
            println!(
                "{:>7.1} s        whole again; {} messages acknowledged",
                begun.elapsed().as_secs_f64(),
                load.acked()
            );
        }
    }
    deployment.mend().await;
    (done, load.end().await)
}

fn draw(rng: &mut SmallRng, deployment: &Deployment) -> Fault {
    let node = rng.random_range(0..deployment.nodes.len());
    let region = rng.random_range(1..=REGIONS.len());
    let other = (region + rng.random_range(0..REGIONS.len() - 1)) % REGIONS.len() + 1;
    let network = *[Network::Mesh, Network::Store].choose(rng).expect("two");
    loop {
        // Out of a hundred.
        let fault = match rng.random_range(0..100) {
            0..30 => Fault::Kill(node),
            30..55 => Fault::Pause(node),
            55..65 => Fault::End(node),
            65..73 => Fault::KillRegion(region),
            73..79 => Fault::PauseRegion(region),
            79..82 => Fault::KillServer(region),
            82..88 => Fault::PauseServer(region),
            88..95 => Fault::Cut(region, other, network),
            _ => Fault::Isolate(region),
        };
        if fault.is_possible(deployment) {
            return fault;
        }
    }
}

impl Fault {
    fn is_possible(&self, deployment: &Deployment) -> bool {
        match self {
            Self::KillServer(region) | Self::PauseServer(region) => {
                deployment.cluster.nodes[region - 1].is_ours()
            }
            Self::Cut(..) | Self::Isolate(_) => deployment.hosts.has_namespaces(),
            _ => true,
        }
    }

    fn kind(&self) -> &'static str {
        match self {
            Self::Kill(_) => "kills of a node",
            Self::Pause(_) => "pauses of a node",
            Self::End(_) => "restarts in order",
            Self::KillRegion(_) => "kills of a region's nodes",
            Self::PauseRegion(_) => "pauses of a region's nodes",
            Self::KillServer(_) => "kills of a server of the store",
            Self::PauseServer(_) => "pauses of a server of the store",
            Self::Cut(..) => "cuts between two regions",
            Self::Isolate(_) => "regions cut off",
        }
    }

    fn named(&self, deployment: &Deployment) -> String {
        let node = |n: &usize| &deployment.nodes[*n].name;
        let region = |n: &usize| REGIONS[n - 1];
        match self {
            Self::Kill(n) => format!("SIGKILL {}", node(n)),
            Self::Pause(n) => format!("SIGSTOP {}", node(n)),
            Self::End(n) => format!("SIGTERM {}", node(n)),
            Self::KillRegion(n) => format!("SIGKILL all nodes of {}", region(n)),
            Self::PauseRegion(n) => format!("SIGSTOP all nodes of {}", region(n)),
            Self::KillServer(n) => format!("SIGKILL the store's server of {}", region(n)),
            Self::PauseServer(n) => format!("SIGSTOP the store's server of {}", region(n)),
            Self::Cut(a, b, network) => {
                format!("cut of {network:?} between {} and {}", region(a), region(b))
            }
            Self::Isolate(n) => format!("{} is cut off", region(n)),
        }
    }

    fn begin(&self, deployment: &Deployment) {
        match *self {
            // A node that came up just now may still be on its way down again.
            Self::Kill(n) if deployment.nodes[n].is_alive() => deployment.nodes[n].kill(),
            Self::Pause(n) if deployment.nodes[n].is_alive() => deployment.nodes[n].pause(),
            Self::End(n) if deployment.nodes[n].is_alive() => deployment.nodes[n].end(),
            Self::Kill(_) | Self::Pause(_) | Self::End(_) => {}
            Self::KillRegion(region) => {
                deployment
                    .nodes_of(region)
                    .filter(|node| node.is_alive())
                    .for_each(|node| node.kill());
            }
            Self::PauseRegion(region) => {
                deployment
                    .nodes_of(region)
                    .filter(|node| node.is_alive())
                    .for_each(|node| node.pause());
            }
            Self::KillServer(region) => deployment.cluster.nodes[region - 1].kill(),
            Self::PauseServer(region) => deployment.cluster.nodes[region - 1].pause(),
            Self::Cut(a, b, network) => deployment.hosts.cut(a, b, network),
            Self::Isolate(region) => {
                for other in others(region) {
                    deployment.hosts.cut(region, other, Network::Mesh);
                    deployment.hosts.cut(region, other, Network::Store);
                }
            }
        }
    }

    fn end(&self, deployment: &Deployment) {
        let revive = |region| {
            for node in deployment.nodes_of(region).filter(|node| !node.is_alive()) {
                node.start();
            }
        };
        match *self {
            Self::Kill(n) | Self::End(n) if !deployment.nodes[n].is_alive() => {
                deployment.nodes[n].start()
            }
            Self::Kill(_) | Self::End(_) => {}
            Self::Pause(n) => deployment.nodes[n].wake(),
            Self::KillRegion(region) => revive(region),
            Self::PauseRegion(region) => deployment.nodes_of(region).for_each(|node| node.wake()),
            Self::KillServer(region) => {
                deployment.cluster.nodes[region - 1].start();
                deployment.cluster.wait();
            }
            Self::PauseServer(region) => deployment.cluster.nodes[region - 1].wake(),
            Self::Cut(a, b, network) => deployment.hosts.heal(a, b, network),
            Self::Isolate(region) => {
                for other in others(region) {
                    deployment.hosts.heal(region, other, Network::Mesh);
                    deployment.hosts.heal(region, other, Network::Store);
                }
            }
        }
    }
}

fn others(region: usize) -> impl Iterator<Item = usize> {
    (1..=REGIONS.len()).filter(move |&other| other != region)
}
