//! Which frame needs which feature of its reader. A new kind of frame gets its line here.

use super::Feature;
use crate::command::{Command, MeshCommand, Query, UserCommand};
use crate::stream::{FromOwner, NodeRequest, ToOwner};

impl UserCommand {
    /// The feature that the owner needs for it.
    #[must_use]
    pub fn needs(&self) -> Option<Feature> {
        match self {
            Self::CreateGroup { .. }
            | Self::OpenDirect { .. }
            | Self::Send(_)
            | Self::ChangeMembers { .. } => None,
        }
    }
}

impl MeshCommand {
    /// The feature that the owner needs for it.
    #[must_use]
    pub fn needs(&self) -> Option<Feature> {
        match self {
            Self::NoteJoined { .. } | Self::NoteLeft { .. } => None,
            Self::Move { .. } | Self::AcceptTransfer { .. } => Some(Feature::Moves),
        }
    }
}

impl Command {
    /// The feature that the owner needs for it. An unknown kind is passed on as it came.
    #[must_use]
    pub fn needs(&self) -> Option<Feature> {
        match self {
            Self::User(command) => command.needs(),
            Self::Mesh(command) => command.needs(),
            Self::Unknown(_) => None,
        }
    }
}

impl Query {
    /// The feature that the owner needs for it.
    #[must_use]
    pub fn needs(&self) -> Option<Feature> {
        match self {
            Self::History { .. }
            | Self::Changes { .. }
            | Self::View { .. }
            | Self::Inbox { .. }
            | Self::Unknown(_) => None,
        }
    }
}

impl ToOwner {
    /// The feature that the owner needs for it.
    #[must_use]
    pub fn needs(&self) -> Option<Feature> {
        match self {
            Self::Command { command, .. } => command.needs(),
            Self::Query { query, .. } => query.needs(),
            Self::Watch { .. }
            | Self::Unwatch { .. }
            | Self::Unsupported { .. }
            | Self::Unknown(_) => None,
        }
    }
}

impl FromOwner {
    /// The feature that the reader needs for it.
    #[must_use]
    pub fn needs(&self) -> Option<Feature> {
        match self {
            Self::Moved { .. } => Some(Feature::Moves),
            Self::Reply { .. }
            | Self::Feed { .. }
            | Self::Lagged { .. }
            | Self::End(_)
            | Self::Unsupported { .. }
            | Self::Unknown(_) => None,
        }
    }
}

impl NodeRequest {
    /// The feature that the asked node needs for it.
    #[must_use]
    pub fn needs(&self) -> Option<Feature> {
        match self {
            Self::Handover { .. } | Self::Unknown(_) => None,
        }
    }
}
