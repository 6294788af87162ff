//! What an owner does with requests for conversations that it does not serve, and with those who
//! watch one that leaves. It may say where a conversation is only when it has arrived there, and
//! only by what is confirmed; until then requests wait.

use std::collections::{BTreeMap, BTreeSet};

use wire::change::Home;
use wire::{ConversationId, ShardId, Slot};

/// Arrivals remembered whose replication is awaited. For any more it is found out from the start
/// each time they are asked for.
const ARRIVALS_MAX: usize = 4_096;

/// What to do with one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Redirect {
    /// It waits; [`Redirects::look_again`] returns it.
    Wait,
    /// It waits until the conversation is reloaded. `begin`: nobody has begun to.
    Reload { begin: bool },
    /// It is told that the conversation is there.
    To(Home),
}

/// The redirects of one shard in one term.
#[derive(Clone, Debug, Default)]
pub struct Redirects {
    /// With requests that wait to be told where they are.
    waiting: BTreeSet<ConversationId>,
    /// Where they are is unconfirmed: they are reloaded soon.
    unconfirmed: BTreeSet<ConversationId>,
    /// They have left, and those who watch are not told yet: where to, and before which slot.
    departing: BTreeMap<ConversationId, (Home, Slot)>,
    /// Moves whose acknowledgement waits for full replication: (conversation, move) -> the slot
    /// that every region must reach.
    arrivals: BTreeMap<(ConversationId, u64), Slot>,
}

impl Redirects {
    /// A request came for a conversation that is `elsewhere`, as seen from `here`. `may_tell`: its
    /// move is finished. `is_confirmed`: no lost region can take the move back.
    pub fn on_request(
        &mut self,
        id: ConversationId,
        here: ShardId,
        elsewhere: Home,
        may_tell: bool,
        is_confirmed: bool,
    ) -> Redirect {
        // On its way to this shard, or not known to have arrived in the other.
        if elsewhere.shard == here || !may_tell {
            self.waiting.insert(id);
            return Redirect::Wait;
        }
        if !is_confirmed {
            return Redirect::Reload { begin: self.unconfirmed.insert(id) };
        }
        Redirect::To(elsewhere)
    }

    /// It was reloaded, or could not be.
    pub fn reloaded(&mut self, id: &ConversationId) {
        self.unconfirmed.remove(id);
    }

    /// `MovedOut` was committed, before this slot.
    pub fn departed(&mut self, id: ConversationId, to: Home, before: Slot) {
        self.departing.insert(id, (to, before));
    }

    /// Something may have arrived. Returns whom to tell those who watch of, and the conversations
    /// whose requests are to be looked at again.
    pub fn look_again(
        &mut self,
        may_tell: impl Fn(&ConversationId, Slot) -> bool,
    ) -> (Vec<(ConversationId, Home)>, BTreeSet<ConversationId>) {
        let mut arrived = Vec::new();
        self.departing.retain(|id, (to, before)| {
            let waits = !may_tell(id, *before);
            if !waits {
                arrived.push((*id, *to));
            }
            waits
        });
        (arrived, std::mem::take(&mut self.waiting))
    }

    /// Whether the arrival of this move is replicated everywhere. `before`: the slot to reach, as
    /// known now; asked again, an arrival does not come to need more. `reached`: whether the
    /// replication watermark has reached a slot.
    pub fn is_replicated(
        &mut self,
        id: ConversationId,
        n: u64,
        before: Slot,
        reached: impl FnOnce(Slot) -> bool,
    ) -> bool {
        let before = *self.arrivals.entry((id, n)).or_insert(before);
        let is_replicated = reached(before);
        if is_replicated || self.arrivals.len() > ARRIVALS_MAX {
            self.arrivals.remove(&(id, n));
        }
        is_replicated
    }
}

#[cfg(test)]
mod tests {
    use wire::{ConversationKind, Durability, RegionId, ZoneId};

    use super::*;

    fn shard(home: u16) -> ShardId {
        ShardId { zone: ZoneId(1), home: RegionId(home), durability: Durability::Region, n: 0 }
    }

    fn id() -> ConversationId {
        ConversationId { kind: ConversationKind::Group, shard: shard(1), unique: [1; 16] }
    }

    fn to(region: u16) -> Home {
        Home { generation: 1, shard: shard(region) }
    }

    #[test]
    fn a_request_waits_until_the_move_may_be_told_and_is_looked_at_once() {
        let mut redirects = Redirects::default();
        assert_eq!(redirects.on_request(id(), shard(1), to(2), false, true), Redirect::Wait);
        assert_eq!(redirects.on_request(id(), shard(1), to(1), true, true), Redirect::Wait);
        let (_, waiting) = redirects.look_again(|_, _| false);
        assert_eq!(waiting, BTreeSet::from([id()]));
        assert!(redirects.look_again(|_, _| true).1.is_empty());
        assert_eq!(redirects.on_request(id(), shard(1), to(2), true, true), Redirect::To(to(2)));
    }

    #[test]
    fn an_unconfirmed_place_is_reloaded_once_at_a_time() {
        let mut redirects = Redirects::default();
        let ask =
            |redirects: &mut Redirects| redirects.on_request(id(), shard(1), to(2), true, false);
        assert_eq!(ask(&mut redirects), Redirect::Reload { begin: true });
        assert_eq!(ask(&mut redirects), Redirect::Reload { begin: false });
        redirects.reloaded(&id());
        assert_eq!(ask(&mut redirects), Redirect::Reload { begin: true });
    }

    #[test]
    fn those_who_watch_are_told_once_and_not_before_it_has_arrived() {
        let mut redirects = Redirects::default();
        redirects.departed(id(), to(2), Slot(7));
        assert!(redirects.look_again(|_, before| before < Slot(7)).0.is_empty());
        assert_eq!(redirects.look_again(|_, before| before == Slot(7)).0, [(id(), to(2))]);
        assert!(redirects.look_again(|_, _| true).0.is_empty());
    }

    #[test]
    fn an_arrival_waits_for_the_slot_it_was_first_asked_with() {
        let mut redirects = Redirects::default();
        assert!(!redirects.is_replicated(id(), 1, Slot(5), |slot| slot <= Slot(4)));
        assert!(redirects.is_replicated(id(), 1, Slot(9), |slot| slot <= Slot(5)));
        assert!(!redirects.is_replicated(id(), 1, Slot(9), |slot| slot <= Slot(5)), "forgotten");
    }
}
