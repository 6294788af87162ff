//! Keeps the timed lease of this process alive, and knows until when the process may acknowledge by
//! it.
//!
//! The driver reads the clock, calls [`Renewal::next`], does what it says, and calls
//! [`Renewal::on`] with the result. It is one task for the whole process, beside the shards, which
//! take [`Renewal::hold`] from it. The first beat must be confirmed before the process claims
//! anything: a claimant that lists the incarnations of a region must find every owner's (L4).

use super::core_lease::{Beat, CoreLease, Timing, Uptime};
use super::lease::{Cas, Nonce};

/// What the driver does next.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Renew {
    /// Conditional insert of [`CoreLease::registered`], at SERIAL: only if this incarnation has no
    /// row.
    Register { incarnation: Nonce },
    /// Conditional update of the row, at SERIAL: [`CoreLease::renewed`].
    Beat {
        incarnation: Nonce,
        /// The beat that must still be there, not revoked. The next one is written.
        from: Beat,
    },
    /// Serial read of the row.
    Read { incarnation: Nonce },
    /// Waits until this reading of the clock.
    Wait { until: Uptime },
}

/// The result of a [`Renew`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Renewed {
    /// Of [`Renew::Register`] or [`Renew::Beat`].
    Cas(Cas),
    /// Of [`Renew::Read`]. None when there is no row.
    Row(Option<CoreLease>),
    /// Of any of them: it failed or timed out, and may or may not have happened.
    Unknown,
}

/// What a confirmed beat allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Hold {
    /// The incarnation, and so the terms that were claimed under it.
    pub incarnation: Nonce,
    /// The process may acknowledge while the clock, read after the append, is before this (L3).
    pub until: Uptime,
}

/// A claimant revoked the lease of this incarnation, or its row is gone. It acknowledges nothing
/// more. The shards of this process are claimed again under a new incarnation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[error("the timed lease of this process was broken at beat {}", beat.0)]
pub struct Broken {
    /// The last beat that was confirmed.
    pub beat: Beat,
}

/// The lease of one incarnation.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Renewal {
    incarnation: Nonce,
    timing: Timing,
    /// The last beat that is known to be written.
    beat: Beat,
    /// The clock before the first attempt at that beat; none before the first beat.
    begun: Option<Uptime>,
    attempt: Option<Attempt>,
    broken: bool,
}

/// The attempt at the next beat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Attempt {
    /// The clock before the first try. It is kept over all tries: any of them may have taken effect
    /// (L2).
    first: Uptime,
    /// The last try may have taken effect.
    doubt: bool,
}

impl Renewal {
    /// Starts a new incarnation.
    #[must_use]
    pub fn new(incarnation: Nonce, timing: Timing) -> Self {
        Self { incarnation, timing, beat: Beat(0), begun: None, attempt: None, broken: false }
    }

    /// What to do next. `now` was read just before.
    ///
    /// # Errors
    /// When the lease is revoked.
    pub fn next(&mut self, now: Uptime) -> Result<Renew, Broken> {
        self.check()?;
        if self.attempt.is_none() {
            let due = self.begun.map_or(now, |begun| begun.after(self.timing.renewal()));
            if now < due {
                return Ok(Renew::Wait { until: due });
            }
        }
        let attempt = self.attempt.get_or_insert(Attempt { first: now, doubt: false });
        let incarnation = self.incarnation;
        Ok(match (attempt.doubt, self.beat) {
            (true, _) => Renew::Read { incarnation },
            (false, Beat(0)) => Renew::Register { incarnation },
            (false, from) => Renew::Beat { incarnation, from },
        })
    }

    /// Takes the result of what [`Renewal::next`] asked for.
    ///
    /// # Errors
    /// When the lease turns out to be revoked.
    pub fn on(&mut self, renewed: Renewed) -> Result<(), Broken> {
        self.check()?;
        let Some(attempt) = &mut self.attempt else { return Ok(()) };
        match renewed {
            Renewed::Cas(Cas::Applied) => self.confirm(),
            // A refusal is looked at, too: our own earlier try may have caused it.
            Renewed::Cas(Cas::Refused) | Renewed::Unknown => attempt.doubt = true,
            Renewed::Row(Some(row)) if !row.broken && row.beat == self.beat.next() => {
                self.confirm()
            }
            Renewed::Row(Some(row)) if !row.broken && row.beat == self.beat => {
                attempt.doubt = false
            }
            Renewed::Row(None) if self.beat == Beat(0) => attempt.doubt = false,
            Renewed::Row(_) => self.broken = true,
        }
        self.check()
    }

    /// What the last confirmed beat allows.
    #[must_use]
    pub fn hold(&self) -> Option<Hold> {
        let begun = self.begun.filter(|_| !self.broken)?;
        Some(Hold { incarnation: self.incarnation, until: begun.after(self.timing.holds()) })
    }

    #[must_use]
    pub fn beat(&self) -> Beat {
        self.beat
    }

    /// Whether the first beat is confirmed. Only then may the process claim.
    #[must_use]
    pub fn is_registered(&self) -> bool {
        self.beat > Beat(0) && !self.broken
    }

    fn confirm(&mut self) {
        if let Some(attempt) = self.attempt.take() {
            self.beat = self.beat.next();
            self.begun = Some(attempt.first);
        }
    }

    fn check(&self) -> Result<(), Broken> {
        if self.broken { Err(Broken { beat: self.beat }) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::shard::core_lease::ClockError;

    const LIFE: Nonce = Nonce(3);

    fn at(ms: u64) -> Uptime {
        Uptime(Duration::from_millis(ms))
    }

    fn row(beat: u64, broken: bool) -> Renewed {
        let node = "r1/core/1".parse().unwrap();
        Renewed::Row(Some(CoreLease { node, incarnation: LIFE, beat: Beat(beat), broken }))
    }

    fn until(renewal: &Renewal) -> Option<Uptime> {
        renewal.hold().map(|hold| hold.until)
    }

    /// A lease of 9 s with a margin of 1 s, registered at 100 ms.
    fn registered() -> Renewal {
        let clocks = ClockError { rate_ppm_max: 1_000, granularity: Duration::from_millis(1) };
        let timing = Timing::new(Duration::from_secs(9), Duration::from_secs(1), clocks).unwrap();
        let mut renewal = Renewal::new(LIFE, timing);
        assert_eq!((until(&renewal), renewal.is_registered()), (None, false));
        assert_eq!(renewal.next(at(100)), Ok(Renew::Register { incarnation: LIFE }));
        renewal.on(Renewed::Cas(Cas::Applied)).unwrap();
        assert!(renewal.is_registered());
        renewal
    }

    #[test]
    fn a_lease_counts_from_before_the_first_try_and_not_from_the_reply() {
        let mut renewal = registered();
        assert_eq!(until(&renewal), Some(at(8_100)));
        assert_eq!(renewal.next(at(200)), Ok(Renew::Wait { until: at(3_100) }));
        assert_eq!(renewal.next(at(3_100)), Ok(Renew::Beat { incarnation: LIFE, from: Beat(1) }));
        // It took effect, but the reply was lost; the second try finds it done.
        renewal.on(Renewed::Unknown).unwrap();
        assert_eq!(renewal.next(at(7_000)), Ok(Renew::Read { incarnation: LIFE }));
        renewal.on(Renewed::Unknown).unwrap();
        assert_eq!(renewal.next(at(7_500)), Ok(Renew::Read { incarnation: LIFE }));
        assert_eq!(until(&renewal), Some(at(8_100)), "until it is known, the old one");
        renewal.on(row(2, false)).unwrap();
        assert_eq!(until(&renewal), Some(at(11_100)));
    }

    #[test]
    fn a_try_that_did_not_take_effect_is_made_again_under_the_same_beat() {
        let mut renewal = registered();
        assert_eq!(renewal.next(at(4_000)), Ok(Renew::Beat { incarnation: LIFE, from: Beat(1) }));
        renewal.on(Renewed::Unknown).unwrap();
        assert_eq!(renewal.next(at(5_000)), Ok(Renew::Read { incarnation: LIFE }));
        renewal.on(row(1, false)).unwrap();
        assert_eq!(renewal.next(at(6_000)), Ok(Renew::Beat { incarnation: LIFE, from: Beat(1) }));
        renewal.on(Renewed::Cas(Cas::Refused)).unwrap();
        assert_eq!(
            renewal.next(at(6_500)),
            Ok(Renew::Read { incarnation: LIFE }),
            "the first try landed after all"
        );
        renewal.on(row(2, false)).unwrap();
        assert_eq!(until(&renewal), Some(at(12_000)));
    }

    #[test]
    fn an_expired_lease_that_nobody_broke_is_renewed() {
        let mut renewal = registered();
        assert_eq!(renewal.next(at(60_000)), Ok(Renew::Beat { incarnation: LIFE, from: Beat(1) }));
        renewal.on(Renewed::Cas(Cas::Applied)).unwrap();
        assert_eq!(until(&renewal), Some(at(68_000)));
    }

    #[test]
    fn a_broken_life_acknowledges_nothing_any_more() {
        for found in [row(1, true), row(2, true), Renewed::Row(None), row(7, false)] {
            let mut renewal = registered();
            renewal.next(at(4_000)).unwrap();
            renewal.on(Renewed::Cas(Cas::Refused)).unwrap();
            let broken = Broken { beat: Beat(1) };
            assert_eq!(renewal.on(found), Err(broken));
            assert_eq!((until(&renewal), renewal.is_registered()), (None, false));
            assert_eq!(renewal.next(at(4_100)), Err(broken));
            assert_eq!(renewal.on(Renewed::Cas(Cas::Applied)), Err(broken), "for ever");
        }
    }

    #[test]
    fn a_registration_in_doubt_is_settled_by_reading_it() {
        let mut renewal = Renewal::new(LIFE, registered().timing);
        renewal.next(at(100)).unwrap();
        renewal.on(Renewed::Unknown).unwrap();
        assert_eq!(renewal.next(at(900)), Ok(Renew::Read { incarnation: LIFE }));
        renewal.on(Renewed::Row(None)).unwrap();
        assert_eq!(renewal.next(at(950)), Ok(Renew::Register { incarnation: LIFE }));
        renewal.on(Renewed::Cas(Cas::Refused)).unwrap();
        renewal.on(row(1, false)).unwrap();
        assert_eq!(until(&renewal), Some(at(8_100)));
    }
}
