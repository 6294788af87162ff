//! Nodes by the names that people write: `eu-west/core/1`, which inside is `r1/core/1`.

use wire::NodeId;

use super::World;

/// Why a text names no node.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NodeNameError {
    /// It does not have the form of a node name.
    #[error("\"{0}\" is not of the form region/core/name or region/edge/name")]
    Form(String),
    /// The region does not exist.
    #[error("the world has no region \"{region}\"; it has: {known}")]
    Region { region: String, known: String },
}

impl World {
    /// The node of that name, such as `eu-west/core/1`. Whether the world starts with it does not
    /// matter.
    ///
    /// # Errors
    /// When the text has another form, or the world has no such region.
    pub fn node_named(&self, text: &str) -> Result<NodeId, NodeNameError> {
        let form = || NodeNameError::Form(text.to_owned());
        let (name, rest) = text.split_once('/').ok_or_else(form)?;
        let Some(region) = self.region_by_name(name) else {
            let known: Vec<_> = self.regions.iter().map(|region| region.name.as_str()).collect();
            return Err(NodeNameError::Region { region: name.to_owned(), known: known.join(", ") });
        };
        format!("r{}/{rest}", region.id.0).parse().map_err(|_| form())
    }

    /// What people call a node.
    #[must_use]
    pub fn name_of(&self, node: &NodeId) -> String {
        let id = node.to_string();
        let rest = id.split_once('/').map_or("", |(_, rest)| rest);
        format!("{}/{rest}", self.region_name(node.region))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_are_named_by_their_region_and_back() {
        let world = World::default_world();
        for node in world.nodes() {
            assert_eq!(world.node_named(&world.name_of(&node)), Ok(node));
        }
        let west = world.regions[0].name.clone();
        assert_eq!(
            world.node_named(&format!("{west}/edge/spare")).unwrap().to_string(),
            "r1/edge/spare"
        );
    }

    #[test]
    fn what_names_no_node_is_told_why() {
        let world = World::default_world();
        let why = |text: &str| world.node_named(text).unwrap_err().to_string();
        assert!(why("atlantis/core/1").contains("it has: "), "{}", why("atlantis/core/1"));
        let west = &world.regions[0].name;
        for wrong in [
            "",
            "core",
            west,
            &format!("{west}/king/1"),
            &format!("{west}/core"),
            &format!("{west}/core/1/2"),
        ] {
            assert!(why(wrong).contains("region/core/name"), "{wrong}: {}", why(wrong));
        }
    }
}
