//! In which shard each conversation is that has moved, as far as this edge has heard (M6). All
//! others are where they were born.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use conversation::moving::supersedes;
use topology::World;
use wire::change::Home;
use wire::{ConversationId, ShardId};

/// So many are remembered whether anybody here is interested or not; beyond that, the others are
/// asked for again.
pub(super) const KEPT_MAX: usize = 65_536;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Homes {
    moved: RwLock<HashMap<ConversationId, Home>>,
}

impl Homes {
    /// Where it is.
    pub(crate) fn shard_of(&self, conversation: &ConversationId) -> ShardId {
        self.read().get(conversation).map_or(conversation.shard, |placement| placement.shard)
    }

    /// Takes what was heard, if it is news and can be.
    pub(super) fn learn(&self, world: &World, conversation: ConversationId, heard: Home) -> bool {
        let (born, to) = (conversation.shard, heard.shard);
        let can_be =
            (born.zone, born.durability) == (to.zone, to.durability) && world.has_shard(&to);
        let known = self.read().get(&conversation).copied();
        let known = known.unwrap_or(Home { generation: 0, shard: born });
        let news = can_be && supersedes(heard, Some(known));
        if news {
            self.write().insert(conversation, heard);
        }
        news
    }

    /// Forgets, when there are many, those that are not wanted.
    pub(super) fn tidy(&self, is_wanted: impl Fn(&ConversationId, &ShardId) -> bool) {
        self.write().retain(|conversation, placement| is_wanted(conversation, &placement.shard));
    }

    pub(super) fn len(&self) -> usize {
        self.read().len()
    }

    fn read(&self) -> RwLockReadGuard<'_, HashMap<ConversationId, Home>> {
        self.moved.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, HashMap<ConversationId, Home>> {
        self.moved.write().unwrap_or_else(PoisonError::into_inner)
    }
}
