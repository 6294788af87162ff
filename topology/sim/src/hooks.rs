//! Clock and randomness of a simulation. This module replaces libc's own functions for this binary.
//!
//! Product code calls std, tokio, ring or rand; all of them end in `clock_gettime`, `getrandom` or
//! `syscall`. The linker prefers the definitions of this module to libc's. A thread that has not
//! called [`begin`] gets the kernel's answers.
//!
//! Because these symbols replace libc's, **this crate must never be linked into a production
//! binary**; a test of the tree's shape checks who depends on it.
//!
//! | what asks | ends in |
//! |---|---|
//! | `std::time::{Instant, SystemTime}` | `clock_gettime` |
//! | keys of `HashMap`, `rand::rng()`, `getrandom` | `getrandom` |
//! | ring | `syscall(SYS_getrandom, …)` |

#![allow(unsafe_code, reason = "replaces functions of libc, whose interface is C's")]

use std::cell::{Cell, RefCell};
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{RngCore, SeedableRng};

/// Whether the hooks are compiled in: on Linux on x86-64. Elsewhere nothing is repeatable, and the
/// simulator refuses to run.
pub const SUPPORTED: bool = cfg!(all(target_os = "linux", target_arch = "x86_64"));

thread_local! {
    // No destructors: the hooks are called at any moment of a thread's life, its end included.
    static ACTIVE: Cell<bool> = const { Cell::new(false) };
    static MONOTONIC: Cell<Duration> = const { Cell::new(Duration::ZERO) };
    static WALL: Cell<Duration> = const { Cell::new(Duration::ZERO) };
    static DICE: RefCell<Option<SmallRng>> = const { RefCell::new(None) };
}

/// Stops this thread's clocks at the time of [`set_clocks`], and seeds its randomness. Call it
/// first in a fresh thread: earlier hashes and draws are not repeatable.
pub fn begin(seed: u64) {
    DICE.with(|rng| *rng.borrow_mut() = Some(SmallRng::seed_from_u64(seed)));
    ACTIVE.set(true);
}

/// Gives this thread the kernel's answers again.
pub fn end() {
    ACTIVE.set(false);
}

/// Sets this thread's clocks: monotonic, and since 1970.
pub fn set_clocks(monotonic: Duration, wall: Duration) {
    MONOTONIC.set(monotonic);
    WALL.set(wall);
}

/// CPU time of this thread, which no hook touches.
#[must_use]
pub fn thread_cpu_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
    // SAFETY: the kernel writes one timespec to a place of ours.
    unsafe {
        kernel::call(
            libc::SYS_clock_gettime,
            [libc::CLOCK_THREAD_CPUTIME_ID as i64, (&raw mut time) as i64, 0, 0, 0, 0],
        );
    }
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Fills from the simulation's generator, if this thread simulates.
fn drawn(bytes: &mut [u8]) -> bool {
    // While the thread ends the generator may be gone; then the kernel answers.
    let fill = |rng: &RefCell<Option<SmallRng>>| match rng.try_borrow_mut() {
        Ok(mut rng) => rng.as_mut().map(|rng| rng.fill_bytes(bytes)).is_some(),
        Err(_) => false,
    };
    ACTIVE.try_with(Cell::get).unwrap_or(false) && DICE.try_with(fill).unwrap_or(false)
}

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod kernel {
    use std::slice;

    use libc::{c_int, c_long, c_uint, c_void, clockid_t, size_t, ssize_t, timespec};

    use super::{ACTIVE, Cell, MONOTONIC, WALL, drawn};

    /// The system call itself: negative on failure, as the kernel says.
    ///
    /// # Safety
    /// As that of the system call.
    pub(super) unsafe fn call(number: c_long, with: [c_long; 6]) -> c_long {
        let result;
        // SAFETY: the kernel's convention on x86-64: it keeps all registers but rax, rcx and r11.
        unsafe {
            std::arch::asm!(
                "syscall",
                inlateout("rax") number => result,
                in("rdi") with[0], in("rsi") with[1], in("rdx") with[2],
                in("r10") with[3], in("r8") with[4], in("r9") with[5],
                lateout("rcx") _, lateout("r11") _,
            );
        }
        result
    }

    /// As libc returns: -1 and `errno` on failure.
    fn returned(result: c_long) -> c_long {
        if (-4095..0).contains(&result) {
            // SAFETY: libc's own place of this thread.
            unsafe { *libc::__errno_location() = c_int::try_from(-result).unwrap_or(libc::EIO) };
            return -1;
        }
        result
    }

    #[unsafe(no_mangle)]
    unsafe extern "C" fn clock_gettime(clock: clockid_t, time: *mut timespec) -> c_int {
        let shown = match clock {
            libc::CLOCK_REALTIME | libc::CLOCK_REALTIME_COARSE => WALL.try_with(Cell::get),
            libc::CLOCK_MONOTONIC
            | libc::CLOCK_MONOTONIC_COARSE
            | libc::CLOCK_MONOTONIC_RAW
            | libc::CLOCK_BOOTTIME => MONOTONIC.try_with(Cell::get),
            _ => return passed_on(clock, time),
        };
        match (ACTIVE.try_with(Cell::get), shown) {
            (Ok(true), Ok(shown)) => {
                let nanos = i64::from(shown.subsec_nanos());
                // SAFETY: the caller gives a place for one.
                unsafe {
                    *time = timespec { tv_sec: shown.as_secs().cast_signed(), tv_nsec: nanos }
                };
                0
            }
            _ => passed_on(clock, time),
        }
    }

    fn passed_on(clock: clockid_t, time: *mut timespec) -> c_int {
        // SAFETY: as our caller's.
        let result =
            unsafe { call(libc::SYS_clock_gettime, [clock.into(), time as c_long, 0, 0, 0, 0]) };
        c_int::try_from(returned(result)).unwrap_or(-1)
    }

    #[unsafe(no_mangle)]
    unsafe extern "C" fn getrandom(buffer: *mut c_void, length: size_t, flags: c_uint) -> ssize_t {
        // SAFETY: the caller gives a place of this length.
        if !buffer.is_null() && drawn(unsafe { slice::from_raw_parts_mut(buffer.cast(), length) }) {
            return length.cast_signed();
        }
        // SAFETY: as above.
        let result = unsafe {
            call(
                libc::SYS_getrandom,
                [buffer as c_long, length.cast_signed() as c_long, flags.into(), 0, 0, 0],
            )
        };
        returned(result) as ssize_t
    }

    /// libc's is variadic; on x86-64 integer arguments arrive in the same places.
    #[unsafe(no_mangle)]
    unsafe extern "C" fn syscall(
        number: c_long,
        a: c_long,
        b: c_long,
        c: c_long,
        d: c_long,
        e: c_long,
        f: c_long,
    ) -> c_long {
        if number == libc::SYS_getrandom {
            // SAFETY: the caller's arguments are those of getrandom.
            return unsafe {
                getrandom(a as *mut c_void, b.cast_unsigned() as size_t, c as c_uint) as c_long
            };
        }
        // SAFETY: as our caller's.
        returned(unsafe { call(number, [a, b, c, d, e, f]) })
    }
}

#[cfg(all(test, target_os = "linux", target_arch = "x86_64"))]
mod tests {
    use std::collections::HashMap;
    use std::time::{Instant, SystemTime, UNIX_EPOCH};

    use rand::Rng as _;

    use super::*;

    fn drawn_in_a_fresh_thread(seed: u64) -> (u64, Vec<u32>, Vec<u8>) {
        let thread = std::thread::Builder::new().spawn(move || {
            begin(seed);
            let map: HashMap<u32, ()> = (0..50).map(|n| (n, ())).collect();
            let mut ring = vec![0; 24];
            assert_eq!(
                unsafe { libc::syscall(libc::SYS_getrandom, ring.as_mut_ptr(), ring.len(), 0) },
                24
            );
            (rand::rng().random(), map.into_keys().collect(), ring)
        });
        thread.unwrap().join().unwrap()
    }

    #[test]
    fn all_randomness_of_a_thread_follows_from_its_seed() {
        let first = drawn_in_a_fresh_thread(7);
        assert_eq!(first, drawn_in_a_fresh_thread(7));
        assert_ne!(first, drawn_in_a_fresh_thread(8));
    }

    #[test]
    fn clocks_of_a_simulating_thread_stand_where_they_are_put_and_others_run() {
        let before = Instant::now();
        let thread = std::thread::Builder::new().spawn(|| {
            begin(1);
            set_clocks(Duration::from_secs(5), Duration::from_secs(1_800_000_000));
            let (now, wall) = (Instant::now(), SystemTime::now());
            set_clocks(Duration::from_millis(5_250), Duration::from_secs(1_800_000_001));
            assert_eq!(now.elapsed(), Duration::from_millis(250));
            assert_eq!(
                wall.duration_since(UNIX_EPOCH).unwrap(),
                Duration::from_secs(1_800_000_000)
            );
        });
        thread.unwrap().join().unwrap();
        assert!(before.elapsed() < Duration::from_secs(600));
        assert!(thread_cpu_time() > Duration::ZERO);
    }
}
