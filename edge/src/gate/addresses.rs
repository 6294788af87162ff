//! How many connections an address has: an IPv4 address, or the /64 of an IPv6 address, which is
//! what one customer gets.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Connections and sessions, by address.
pub(crate) struct Addresses {
    most: u32,
    count_loopback: bool,
    open: Mutex<HashMap<IpAddr, u32>>,
}

/// One connection of an address. Dropped, it no longer counts.
pub(crate) struct AddressPermit {
    /// Not there when it does not count.
    counted: Option<(Arc<Addresses>, IpAddr)>,
}

/// What counts as one address.
pub(crate) fn block_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::from([a, b, c, d, 0, 0, 0, 0])
        }
    }
}

impl Addresses {
    pub(crate) fn new(most: usize, count_loopback: bool) -> Arc<Self> {
        let most = u32::try_from(most).unwrap_or(u32::MAX);
        Arc::new(Self { most, count_loopback, open: Mutex::default() })
    }

    /// Counts one more, unless the address has its most.
    pub(crate) fn take(self: &Arc<Self>, address: IpAddr) -> Option<AddressPermit> {
        if !self.count_loopback && address.to_canonical().is_loopback() {
            return Some(AddressPermit { counted: None });
        }
        let block = block_of(address);
        let mut open = self.lock();
        let count = open.entry(block).or_default();
        if *count >= self.most {
            return None;
        }
        *count += 1;
        drop(open);
        Some(AddressPermit { counted: Some((self.clone(), block)) })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, u32>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for AddressPermit {
    fn drop(&mut self) {
        let Some((addresses, block)) = self.counted.take() else { return };
        let mut open = addresses.lock();
        if let Some(count) = open.get_mut(&block) {
            *count -= 1;
            if *count == 0 {
                open.remove(&block);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_or_a_64_has_so_many_and_gets_them_back() {
        let addresses = Addresses::new(2, true);
        for [one, other, third] in [
            ["192.0.2.1", "::ffff:192.0.2.1", "192.0.2.1"],
            ["2001:db8::1", "2001:db8::2", "2001:db8::ffff:1"],
            ["127.0.0.1", "127.0.0.1", "127.0.0.1"],
        ] {
            let held =
                [addresses.take(address(one)).unwrap(), addresses.take(address(other)).unwrap()];
            assert!(addresses.take(address(third)).is_none(), "{third}");
            assert!(addresses.take(address("2001:db8:0:1::1")).is_some());
            drop(held);
            assert!(addresses.take(address(third)).is_some());
        }
        assert!(addresses.lock().is_empty());
    }

    #[test]
    fn loopback_is_not_counted_where_everybody_is_on_it() {
        let addresses = Addresses::new(1, false);
        let _held: Vec<_> = (0..3).map(|_| addresses.take(address("127.0.0.1")).unwrap()).collect();
        assert!(addresses.lock().is_empty());
    }
}
