//! Where the nodes of a mesh are: `nodes.toml`, the same file for all of them. The world says which
//! nodes there should be, this file where they can be reached; it changes more often, and can be
//! read again while a node runs.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::str::FromStr;

use serde::{Deserialize, Deserializer};
use topology::World;
use wire::{NodeId, NodeRole, RegionId};

use crate::config::{self, ConfigError, File, Shape};

crate::section! {
    /// A node.
    pub struct NodeEntry {
        /// Its region (a name of the world), its role (core or edge) and its name, as in its
        /// certificate.
        id: String = must(r#""eu-west/core/1""#),
        /// Where the other nodes reach it: host:port (UDP). A name is looked up, now and again.
        mesh: HostPort = must(r#""10.0.0.1:7400""#),
        /// Edges only: where clients reach it, without a slash at the end.
        url: Option<String> = may(r#""https://eu-west.chat.example.org""#),
    }
}

/// A host, by name or number, and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    /// Without brackets.
    pub host: String,
    /// Not 0.
    pub port: u16,
}

/// Not `host:port`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not of the form host:port, with a port from 1 to 65535")]
pub struct NotHostPort;

impl FromStr for HostPort {
    type Err = NotHostPort;

    fn from_str(text: &str) -> Result<Self, NotHostPort> {
        let (host, port) = text.rsplit_once(':').ok_or(NotHostPort)?;
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let port = port.parse().ok().filter(|port| *port != 0).ok_or(NotHostPort)?;
        let host = bare.unwrap_or(host);
        if host.is_empty()
            || host.contains(char::is_whitespace)
            || (bare.is_none() && host.contains(':'))
        {
            return Err(NotHostPort);
        }
        Ok(Self { host: host.to_owned(), port })
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl<'de> Deserialize<'de> for HostPort {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Where a node is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// For the other nodes.
    pub mesh: HostPort,
    /// For clients; edges have one, cores none.
    pub url: Option<String>,
}

/// Where all nodes are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Addresses(BTreeMap<NodeId, Address>);

impl Addresses {
    /// Reads `nodes.toml`. A node that the world does not start with may stand in it: regions grow.
    ///
    /// # Errors
    /// Everything that is wrong with the file.
    pub fn read(path: &Path, world: &World) -> Result<Self, ConfigError> {
        config::read(path, |file| Some(Self::check(file, world)))
    }

    fn check(file: &mut File<'_>, world: &World) -> Self {
        let mut addresses = BTreeMap::new();
        for (line, entry) in file.sections::<NodeEntry>("node") {
            let node = match world.node_named(&entry.id) {
                Ok(node) => node,
                Err(error) => {
                    file.refuse(
                        line,
                        error.to_string(),
                        "write for example id = \"eu-west/core/1\"",
                    );
                    continue;
                }
            };
            if let Some((problem, cure)) = mistake_of(&node, entry.url.as_deref()) {
                file.refuse(line, format!("{}: {problem}", entry.id), cure);
            }
            let address = Address { mesh: entry.mesh, url: entry.url };
            let twin =
                addresses.iter().find(|(_, there): &(_, &Address)| there.mesh == address.mesh);
            if let Some((other, _)) = twin {
                let problem = format!(
                    "{} and {} are both at {}",
                    world.name_of(other),
                    entry.id,
                    address.mesh
                );
                file.refuse(line, problem, "give each node an address of its own");
            } else if addresses.insert(node, address).is_some() {
                file.refuse(
                    line,
                    format!("{} stands here twice", entry.id),
                    "take one of the two out",
                );
            }
        }
        Self(addresses)
    }

    /// Where this one is.
    #[must_use]
    pub fn of(&self, node: &NodeId) -> Option<&Address> {
        self.0.get(node)
    }

    /// All, by id.
    pub fn iter(&self) -> impl Iterator<Item = (&NodeId, &Address)> {
        self.0.iter()
    }

    /// The edges and how clients reach them.
    pub fn edges(&self) -> impl Iterator<Item = (&NodeId, RegionId, &str)> {
        self.0
            .iter()
            .filter_map(|(node, address)| Some((node, node.region, address.url.as_deref()?)))
    }
}

fn mistake_of(node: &NodeId, url: Option<&str>) -> Option<(&'static str, &'static str)> {
    match (node.role, url) {
        (NodeRole::Core, None) => None,
        (NodeRole::Core, Some(_)) => Some(("a core has no clients", "take its url out")),
        (NodeRole::Edge, None) => {
            Some(("clients cannot find it", "give it a url, such as \"http://10.0.0.2:8080\""))
        }
        (NodeRole::Edge, Some(url)) => {
            let host = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
            let bare =
                host.is_some_and(|host| !host.is_empty() && !host.contains(['/', '?', '#', ' ']));
            (!bare).then_some((
                "its url is not of the form http://host:port or https://host",
                "write no path after the host",
            ))
        }
    }
}

/// The example of the file.
#[must_use]
pub fn example() -> String {
    let head = "Where the nodes of the mesh are. All of them read this same file: nodes.toml.\n\
                A running node takes changes with `kill -HUP`, but for those of its own entry.";
    config::example(head, &[Shape::of::<NodeEntry>("[[node]]")])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Addresses, String> {
        let world = World::shipped("three-regions").unwrap();
        config::parse(text, |file| Some(Addresses::check(file, &world)))
            .map_err(|mistakes| mistakes.to_string())
    }

    #[test]
    fn nodes_are_found_by_their_ids_and_edges_by_their_urls() {
        let text = "[[node]]\nid = \"eu-west/core/1\"\nmesh = \"[::1]:7400\"\n\
                    [[node]]\nid = \"eu-west/edge/spare\"\nmesh = \"edge.eu:7400\"\nurl = \"http://e:80\"\n";
        let addresses = read(text).unwrap();
        let core = addresses.of(&"r1/core/1".parse().unwrap()).unwrap();
        assert_eq!(
            (core.mesh.host.as_str(), core.mesh.to_string().as_str()),
            ("::1", "[::1]:7400")
        );
        let edges: Vec<_> = addresses
            .edges()
            .map(|(node, region, url)| (node.to_string(), region.0, url))
            .collect();
        assert_eq!(edges, [("r1/edge/spare".to_owned(), 1, "http://e:80")]);
        assert_eq!(addresses.iter().count(), 2);
    }

    #[test]
    fn every_wrong_entry_is_told_with_its_line() {
        let entry = |id: &str, rest: &str| format!("[[node]]\nid = \"{id}\"\n{rest}\n");
        let told = |text: String| read(&text).unwrap_err();
        for (text, wanted) in [
            (
                entry("atlantis/core/1", "mesh = \"a:1\""),
                "line 1: the world has no region \"atlantis\"",
            ),
            (entry("eu-west/king/1", "mesh = \"a:1\""), "is not of the form region/core/name"),
            (entry("eu-west/core/1", ""), "lacks \"mesh\""),
            (
                entry("eu-west/core/1", "mesh = \"a\""),
                "line 3: \"mesh\": not of the form host:port",
            ),
            (entry("eu-west/core/1", "mesh = \"a:0\""), "not of the form host:port"),
            (entry("eu-west/core/1", "mesh = \"::1:7\""), "not of the form host:port"),
            (
                entry("eu-west/core/1", "mesh = \"a:1\"\nurl = \"http://a\""),
                "a core has no clients",
            ),
            (entry("eu-west/edge/1", "mesh = \"a:1\""), "clients cannot find it"),
            (
                entry("eu-west/edge/1", "mesh = \"a:1\"\nurl = \"a:80\""),
                "its url is not of the form",
            ),
            (
                entry("eu-west/edge/1", "mesh = \"a:1\"\nurl = \"http://a/\""),
                "write no path after the host",
            ),
            (entry("eu-west/core/1", "mesh = \"a:1\"\nport = 3"), "[node] has no field \"port\""),
        ] {
            let told = told(text);
            assert!(told.contains(wanted) && told.lines().count() == 1, "{wanted}: {told}");
        }
        let core = entry("eu-west/core/1", "mesh = \"a:1\"");
        assert!(
            told(core.clone() + &entry("eu-west/core/1", "mesh = \"a:2\""))
                .contains("line 4: eu-west/core/1 stands here twice")
        );
        assert!(
            told(core + &entry("eu-west/core/2", "mesh = \"a:1\"")).contains("are both at a:1")
        );
    }

    #[test]
    fn the_example_is_read() {
        assert_eq!(read(&example()).unwrap().iter().count(), 1);
        let edge = example().replace("eu-west/core/1", "eu-west/edge/1").replace("#url", "url");
        assert_eq!(read(&edge).unwrap().edges().count(), 1);
    }
}
