//! What a user asks of a conversation through an edge.

use smol_str::SmolStr;

use crate::change::Role;
use crate::codec::{CodecError, Head, Reader, pack, pack_record};
use crate::ids::UserId;
use crate::message::Draft;

/// What a user may change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UserCommand {
    /// A new group. The id was drawn by the edge; creating it twice is one creation.
    CreateGroup {
        /// Its name.
        name: SmolStr,
        /// Besides the creator.
        members: Vec<UserId>,
    },
    /// The direct conversation of the actor and another user: created, or found.
    OpenDirect {
        /// The other user.
        with: UserId,
    },
    /// A message.
    Send(Draft),
    /// Changes the members of a group; all or nothing.
    ChangeMembers {
        /// Become members.
        add: Vec<UserId>,
        /// Are members no longer.
        remove: Vec<UserId>,
        /// Get this role.
        roles: Vec<(UserId, Role)>,
    },
}

impl UserCommand {
    pub(super) fn pack(&self, out: &mut Vec<u8>) -> Head {
        match self {
            Self::CreateGroup { name, members } => pack(1, &(name, members), out),
            Self::OpenDirect { with } => pack(2, with, out),
            Self::Send(draft) => pack_record(3, draft, out),
            Self::ChangeMembers { add, remove, roles } => pack(4, &(add, remove, roles), out),
        }
    }

    pub(super) fn unpack(kind: u16, fields: &mut Reader<'_>) -> Result<Option<Self>, CodecError> {
        Ok(Some(match kind {
            1 => {
                let (name, members) = fields.fields()?;
                Self::CreateGroup { name, members }
            }
            2 => Self::OpenDirect { with: fields.fields()? },
            3 => Self::Send(fields.record()?),
            4 => {
                let (add, remove, roles) = fields.fields()?;
                Self::ChangeMembers { add, remove, roles }
            }
            _ => return Ok(None),
        }))
    }
}
