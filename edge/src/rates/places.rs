//! How many sessions a user has, by the type of the device.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use wire::command::Actor;
use wire::{DeviceId, TenantId, UserId};

/// Sessions that are open or about to be.
#[derive(Default)]
pub(crate) struct Places {
    taken: Mutex<HashMap<Key, u32>>,
}

type Key = (TenantId, UserId, Box<str>);

/// A place for a session that is about to be. Dropped, it is free again.
pub(crate) struct Place {
    places: Arc<Places>,
    key: Option<Key>,
}

/// The part of a device's id that says what it is: `phone` of `phone-1`.
pub(crate) fn device_type(device: Option<&DeviceId>) -> &str {
    let id = device.map_or("dev", DeviceId::as_str);
    let end = id.find(|c: char| c.is_ascii_digit() || c == '-' || c == '_').unwrap_or(id.len());
    &id[..end]
}

fn key(actor: &Actor) -> Key {
    let kind = device_type(actor.device.as_ref());
    (actor.tenant.clone(), actor.user.clone(), kind.into())
}

impl Places {
    /// Takes a place, if the user has fewer than `most` for devices of this type.
    pub(crate) fn take(self: &Arc<Self>, actor: &Actor, most: u16) -> Option<Place> {
        let key = key(actor);
        let mut taken = self.lock();
        let count = taken.entry(key.clone()).or_default();
        if *count >= u32::from(most) {
            return None;
        }
        *count += 1;
        drop(taken);
        Some(Place { places: self.clone(), key: Some(key) })
    }

    /// Whether a place could be taken now.
    pub(crate) fn has_room(&self, actor: &Actor, most: u16) -> bool {
        self.lock().get(&key(actor)).is_none_or(|count| *count < u32::from(most))
    }

    /// The session of an actor has ended.
    pub(crate) fn leave(&self, actor: &Actor) {
        self.free(&key(actor));
    }

    fn free(&self, key: &Key) {
        let mut taken = self.lock();
        if let Some(count) = taken.get_mut(key) {
            *count -= 1;
            if *count == 0 {
                taken.remove(key);
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Key, u32>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// The session is open: [`Places::leave`] frees the place.
    pub(crate) fn keep(mut self) {
        self.key = None;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(key) = self.key.take() {
            self.places.free(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn actor(device: Option<&str>) -> Actor {
        let (tenant, user) = (TenantId::new("t").unwrap(), UserId::new("u").unwrap());
        Actor { tenant, user, device: device.map(|device| DeviceId::new(device).unwrap()) }
    }

    #[test]
    fn a_user_has_so_many_sessions_a_type_of_device_and_gets_them_back() {
        let places = Arc::new(Places::default());
        let phone = places.take(&actor(Some("phone-1")), 2).unwrap();
        places.take(&actor(Some("phone-2")), 2).unwrap().keep();
        assert!(places.take(&actor(Some("phone-3")), 2).is_none());
        assert!(places.take(&actor(Some("tablet")), 2).is_some());
        drop(phone);
        assert!(places.take(&actor(Some("phone-3")), 2).is_some());
        places.leave(&actor(Some("phone-2")));
        assert!(places.lock().is_empty());
    }

    #[test]
    fn a_device_without_a_name_is_of_the_type_of_those_that_the_edge_names() {
        assert_eq!(device_type(None), "dev");
        for (id, kind) in [("dev_1a", "dev"), ("phone-1", "phone"), ("Web", "Web"), ("7", "")] {
            assert_eq!(device_type(Some(&DeviceId::new(id).unwrap())), kind);
        }
    }
}
