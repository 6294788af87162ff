//! The hosts of each region, and the networks between them.
//!
//! With root and `ip`, each region is a network namespace of its own on one bridge, and the way
//! from one to another can be cut: silently, as in the world, and for the mesh and the store apart.
//! Otherwise all regions share the loopback interface, each with addresses of its own, and nothing
//! can be cut.
//!
//! ```text
//! 198.18.(16 slot + region).1 ..     nodes of the region
//! 198.18.(16 slot + region).129      its server of the store
//! 198.18.(16 slot).1                 the tests
//! 198.18.(16 slot).9                 nobody: where packets of a cut way are sent to
//! ```
//! The block is the one for benchmarks of networks (RFC 2544), which no network of people uses.

use std::net::{IpAddr, Ipv4Addr};
use std::process::{Command, Stdio};
use std::sync::Arc;

use crate::reaper::Reaper;

/// Several tests at a time have their own.
const SLOTS: u8 = 16;
/// Regions of a slot.
const REGIONS_MAX: usize = 14;
/// No card has it.
const NOBODY: &str = "02:00:5e:00:00:09";

/// A network between two regions that can be cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    /// Between nodes.
    Mesh,
    /// Between a node or a server of the store and the other region's server.
    Store,
}

/// The hosts of some regions, counted from 1.
#[derive(Debug)]
pub struct Hosts {
    regions: usize,
    slot: u8,
    apart: bool,
    /// Holds the namespaces.
    reaper: Arc<Reaper>,
}

impl Hosts {
    /// Namespaces where that is possible, else loopback.
    #[must_use]
    pub fn take(regions: usize, reaper: &Arc<Reaper>) -> Self {
        assert!((1..=REGIONS_MAX).contains(&regions), "1 to {REGIONS_MAX} regions");
        let reaper = Arc::clone(reaper);
        for slot in 0..SLOTS {
            // The program that makes the bridge has the slot.
            if try_ip(&format!("link add hearth{slot} type bridge")) {
                let hosts = Self { regions, slot, apart: true, reaper };
                hosts.build();
                return hosts;
            }
        }
        let slot = u8::try_from(std::process::id() % u32::from(SLOTS)).unwrap_or_default();
        Self { regions, slot, apart: false, reaper }
    }

    /// The number of regions.
    #[must_use]
    pub fn regions(&self) -> usize {
        self.regions
    }

    /// Whether each region has a network of its own.
    #[must_use]
    pub fn has_namespaces(&self) -> bool {
        self.apart
    }

    /// Whether ways can be cut. If not, says so.
    #[must_use]
    pub fn are_apart(&self) -> bool {
        if !self.apart {
            crate::skip("networks cannot be cut here: that takes root and `ip` (iproute2)");
        }
        self.apart
    }

    /// The address of the n-th node of a region, from 1.
    #[must_use]
    pub fn node(&self, region: usize, n: u8) -> IpAddr {
        assert!((1..128).contains(&n), "1 to 127 nodes");
        self.address(region, n)
    }

    /// The address of the region's store server.
    #[must_use]
    pub fn store(&self, region: usize) -> IpAddr {
        self.address(region, 129)
    }

    fn address(&self, region: usize, last: u8) -> IpAddr {
        let third = self.slot * 16 + u8::try_from(region).expect("few regions");
        IpAddr::V4(if self.apart {
            Ipv4Addr::new(198, 18, third, last)
        } else {
            Ipv4Addr::new(127, 18, third, last)
        })
    }

    /// A program to be run in the region. Its id will be that of the program.
    #[must_use]
    pub fn command(&self, region: usize, program: impl AsRef<std::ffi::OsStr>) -> Command {
        if !self.apart {
            return Command::new(program);
        }
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace(region)]).arg(program);
        command
    }

    /// Nothing passes between the two any more, and nobody is told.
    pub fn cut(&self, a: usize, b: usize, network: Network) {
        let way = format!("via 198.18.{}.9", self.slot * 16);
        self.lead(a, b, network, &way);
        self.lead(b, a, network, &way);
    }

    /// Everything passes again.
    pub fn heal(&self, a: usize, b: usize, network: Network) {
        self.lead(a, b, network, "");
        self.lead(b, a, network, "");
    }

    fn lead(&self, from: usize, to: usize, network: Network, way: &str) {
        assert!(self.apart, "only namespaces can be cut");
        // The source says which network an answer belongs to.
        let (first, source) = match network {
            Network::Mesh => (0, self.address(from, 1)),
            Network::Store => (128, self.store(from)),
        };
        let target = self.slot * 16 + u8::try_from(to).expect("few regions");
        let namespace = self.namespace(from);
        ip(&format!(
            "-n {namespace} route replace 198.18.{target}.{first}/25 {way} dev eth0 src {source}"
        ));
    }

    fn namespace(&self, region: usize) -> String {
        format!("hearth{}r{region}", self.slot)
    }

    fn build(&self) {
        let slot = self.slot;
        let bridge = format!("hearth{slot}");
        self.reaper.link(&bridge);
        let network = slot * 16;
        ip(&format!("addr add 198.18.{network}.1/20 dev {bridge}"));
        ip(&format!("link set {bridge} up"));
        for region in 1..=self.regions {
            let name = self.namespace(region);
            ip(&format!("netns add {name}"));
            self.reaper.namespace(&name);
            ip(&format!("link add {name} type veth peer name eth0 netns {name}"));
            // A namespace lingers until the last of its processes is gone, and its link with it.
            self.reaper.link(&name);
            ip(&format!("link set {name} master {bridge} up"));
            for n in 1..8 {
                ip(&format!("-n {name} addr add {}/20 dev eth0", self.node(region, n)));
            }
            ip(&format!("-n {name} addr add {}/32 dev eth0", self.store(region)));
            ip(&format!("-n {name} link set lo up"));
            ip(&format!("-n {name} link set eth0 up"));
            ip(&format!(
                "-n {name} neigh add 198.18.{network}.9 lladdr {NOBODY} nud permanent dev eth0"
            ));
        }
        for from in 1..=self.regions {
            for to in (1..=self.regions).filter(|&to| to != from) {
                self.lead(from, to, Network::Mesh, "");
                self.lead(from, to, Network::Store, "");
            }
        }
    }
}

fn try_ip(args: &str) -> bool {
    let run = Command::new("ip")
        .args(args.split_whitespace())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    run.is_ok_and(|status| status.success())
}

fn ip(args: &str) {
    let run = Command::new("ip")
        .args(args.split_whitespace())
        .output()
        .expect("ip was there a moment ago");
    assert!(run.status.success(), "ip {args}: {}", String::from_utf8_lossy(&run.stderr));
}
