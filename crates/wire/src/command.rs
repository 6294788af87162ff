//! What nodes ask of the owner of a conversation, and what it answers.

mod answer;
mod mesh;
mod query;
mod user;

use serde::{Deserialize, Serialize};

use crate::codec::{CodecError, Head, Numbered, Reader, Unknown, numbered};
use crate::ids::{DeviceId, TenantId, UserId};

pub use crate::message::{Draft, message_id};
pub use answer::{Ack, Answer, Delivery, InboxLine, MemberView, Refusal, View};
pub use mesh::MeshCommand;
pub use query::Query;
pub use user::UserCommand;

/// The user who asks. The edge's gate has checked their token.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(remote = "Self")]
pub struct Actor {
    /// The user's tenant.
    pub tenant: TenantId,
    /// The user.
    pub user: UserId,
    /// Their device, if the token named one.
    pub device: Option<DeviceId>,
}

crate::record!(Actor);

/// What may change a conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Asked by a user, through an edge.
    User(UserCommand),
    /// Asked by a core, for the mesh itself.
    Mesh(MeshCommand),
    /// Asked by a newer node: its owner refuses it with `unknown_type`.
    Unknown(Unknown),
}

impl From<UserCommand> for Command {
    fn from(command: UserCommand) -> Self {
        Self::User(command)
    }
}

impl From<MeshCommand> for Command {
    fn from(command: MeshCommand) -> Self {
        Self::Mesh(command)
    }
}

/// Numbers of user commands start at 1, of mesh commands at 64.
impl Numbered for Command {
    fn pack(&self, out: &mut Vec<u8>) -> Head {
        match self {
            Self::User(command) => command.pack(out),
            Self::Mesh(command) => command.pack(out),
            Self::Unknown(unknown) => unknown.pack(out),
        }
    }

    fn unpack(kind: u16, fields: &mut Reader<'_>) -> Result<Option<Self>, CodecError> {
        if let Some(command) = UserCommand::unpack(kind, fields)? {
            return Ok(Some(Self::User(command)));
        }
        Ok(MeshCommand::unpack(kind, fields)?.map(Self::Mesh))
    }

    fn unknown(unknown: Unknown) -> Self {
        Self::Unknown(unknown)
    }
}

numbered!(Command);
