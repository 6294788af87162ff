//! What a session's task shares with those who reach it. Knows nobody above it.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use auth::SignedBy;
use conversation::delivery::SubscriberId;
use wire::client::close;
use wire::command::Actor;
use wire::{ConversationId, DeviceId};

use super::encoded::Encoded;
use super::outbox::{Close, Outbox};
use crate::backfill::requests::Requests;
use crate::options::Limits;

/// What is shared between a session's task and those who reach it.
pub(crate) struct Session {
    /// Unique in this process.
    pub(crate) number: u64,
    /// Who it is.
    pub(crate) actor: Actor,
    /// When its token ends, or its longest life, milliseconds since 1970.
    expires_ms: u64,
    /// What vouches for its user.
    pub(crate) signed_by: SignedBy,
    /// What waits to be written.
    pub(crate) outbox: Outbox,
    /// Frames sent on to a home and not answered.
    asked: AtomicU32,
    /// Last sign of life, milliseconds of the edge's clock.
    seen_ms: AtomicU64,
    /// Last ping, as above.
    pinged_ms: AtomicU64,
    /// Since when the socket has taken nothing though something waits; 0: it takes.
    stalled_ms: AtomicU64,
    /// Its messages are refused until then, milliseconds of the edge's clock; 0: they are not.
    refused_until_ms: AtomicU64,
    /// The conversations that it is attached to, sorted. None once it has ended: nothing is
    /// attached any more.
    attached: Mutex<Option<Vec<ConversationId>>>,
    /// What a backfill is to bring, while there is something.
    pub(crate) backfill: Requests,
}

impl Session {
    pub(crate) fn new(
        number: u64,
        mut actor: Actor,
        (expires_ms, signed_by): (u64, SignedBy),
        now_ms: u64,
    ) -> Self {
        // A device that has no name keeps this one while it is connected.
        let device = || DeviceId::new(format!("dev_{}", random_id()));
        actor.device = actor.device.or_else(|| device().ok());
        Self {
            number,
            actor,
            expires_ms,
            signed_by,
            outbox: Outbox::default(),
            asked: AtomicU32::new(0),
            seen_ms: AtomicU64::new(now_ms),
            pinged_ms: AtomicU64::new(now_ms),
            stalled_ms: AtomicU64::new(0),
            refused_until_ms: AtomicU64::new(0),
            attached: Mutex::new(Some(Vec::new())),
            backfill: Requests::default(),
        }
    }

    /// Names it among the subscribers of a conversation.
    pub(crate) fn id(&self) -> SubscriberId {
        SubscriberId(self.number)
    }

    /// Remembers that it is attached. False when it was already; none when it has ended: do not
    /// attach.
    pub(crate) fn note_attached(&self, conversation: ConversationId) -> Option<bool> {
        let mut attached = self.attached();
        let list = attached.as_mut()?;
        let place = list.binary_search(&conversation);
        if let Err(at) = place {
            list.insert(at, conversation);
        }
        Some(place.is_err())
    }

    /// The inverse.
    pub(crate) fn note_detached(&self, conversation: &ConversationId) {
        if let Some(list) = &mut *self.attached()
            && let Ok(at) = list.binary_search(conversation)
        {
            list.remove(at);
        }
    }

    /// Nothing is attached from now on. Returns what was.
    pub(super) fn end_attached(&self) -> Vec<ConversationId> {
        self.attached().take().unwrap_or_default()
    }

    fn attached(&self) -> MutexGuard<'_, Option<Vec<ConversationId>>> {
        self.attached.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One more frame went to a home.
    pub(crate) fn begin_request(&self) {
        self.begin_requests(1);
    }

    /// A frame that weighs as much as so many.
    pub(crate) fn begin_requests(&self, weight: u32) {
        self.asked.fetch_add(weight, Ordering::Relaxed);
    }

    /// It is answered: here.
    pub(crate) fn end_request(&self, answer: Encoded) {
        self.asked.fetch_sub(1, Ordering::Relaxed);
        self.outbox.answer(answer);
    }

    /// It is over; the answer went another way.
    pub(crate) fn end_requests(&self, weight: u32) {
        self.asked.fetch_sub(weight, Ordering::Relaxed);
        self.outbox.wake();
    }

    /// Frames sent on to a home and not answered.
    pub(crate) fn requests(&self) -> usize {
        self.asked.load(Ordering::Relaxed) as usize
    }

    /// One of its messages was refused for so long. Those that were sent right behind it are
    /// refused too, or they would pass it.
    pub(crate) fn refuse_sends(&self, now_ms: u64, wait_ms: u64) {
        self.refused_until_ms.store(now_ms.saturating_add(wait_ms), Ordering::Relaxed);
    }

    /// How long its messages are refused from now on, milliseconds.
    pub(crate) fn sends_refused_ms(&self, now_ms: u64) -> Option<u64> {
        let until = self.refused_until_ms.load(Ordering::Relaxed);
        until.checked_sub(now_ms).filter(|wait| *wait > 0)
    }

    pub(crate) fn note_alive(&self, now_ms: u64) {
        self.seen_ms.store(now_ms, Ordering::Relaxed);
    }

    pub(crate) fn note_stalled(&self, now_ms: u64) {
        if self.stalled_ms.load(Ordering::Relaxed) == 0 {
            self.stalled_ms.store(now_ms.max(1), Ordering::Relaxed);
        }
    }

    pub(crate) fn note_progress(&self) {
        self.stalled_ms.store(0, Ordering::Relaxed);
    }

    /// Looks at the clocks, about once a second: pings, or closes.
    pub(crate) fn tick(&self, now_ms: u64, wall_ms: u64, limits: &Limits) {
        let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let heartbeat = millis(limits.heartbeat);
        let [stalled, seen, pinged] =
            [&self.stalled_ms, &self.seen_ms, &self.pinged_ms].map(|at| at.load(Ordering::Relaxed));
        if wall_ms >= self.expires_ms {
            self.outbox.close(TOKEN_EXPIRED);
        } else if stalled != 0 && now_ms.saturating_sub(stalled) >= millis(limits.stall) {
            self.outbox.close(TOO_SLOW);
        } else if now_ms.saturating_sub(pinged) >= heartbeat {
            if seen < pinged && now_ms.saturating_sub(seen) >= 2 * heartbeat {
                self.outbox.close(HEARTBEAT_MISSED);
            } else if stalled == 0 {
                self.pinged_ms.store(now_ms, Ordering::Relaxed);
                self.outbox.ping();
            }
        }
    }
}

/// Not to be guessed.
pub(super) fn random_id() -> String {
    let random: [u8; 16] = rand::random();
    data_encoding::BASE32_NOPAD.encode(&random).to_lowercase()
}

const TOKEN_EXPIRED: Close =
    Close { code: close::TOKEN_EXPIRED, reason: "the token's time is over" };
/// Its key or its issuer is not trusted any more.
pub(crate) const TOKEN_WITHDRAWN: Close =
    Close { code: close::TOKEN_EXPIRED, reason: "the token's key was withdrawn" };
/// An operator has ended it.
pub(crate) const ENDED: Close =
    Close { code: close::TOKEN_EXPIRED, reason: "an operator ended the session" };
const HEARTBEAT_MISSED: Close = Close { code: close::HEARTBEAT_MISSED, reason: "no sign of life" };
/// A client that does not read.
pub(crate) const TOO_SLOW: Close = Close { code: close::TOO_SLOW, reason: "too slow for too long" };

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use wire::{TenantId, UserId};

    use super::*;

    const SECOND: u64 = 1_000;

    fn session() -> Session {
        let (tenant, user) = (TenantId::new("t").unwrap(), UserId::new("u").unwrap());
        Session::new(1, Actor { tenant, user, device: None }, (100 * SECOND, signed_by()), 0)
    }

    fn signed_by() -> SignedBy {
        let issuer = auth::DevIssuer::from_seed([1; 32]);
        let options = auth::VerifierOptions {
            tenants: vec![TenantId::new("t").unwrap()],
            issuers: Vec::new(),
            dev: Some(issuer.public_key()),
            stream: auth::StreamKey::from_seed([2; 32]),
        };
        let (tenant, user) = (TenantId::new("t").unwrap(), UserId::new("u").unwrap());
        let token = issuer.issue(&tenant, &user, None, 60, 0);
        auth::Verifier::new(options).unwrap().verify_identity(&token, 0).unwrap().signed_by
    }

    fn limits() -> Limits {
        let (heartbeat, stall) = (Duration::from_secs(20), Duration::from_secs(30));
        Limits { heartbeat, stall, ..Limits::default() }
    }

    fn code(session: &Session) -> Option<u16> {
        session.outbox.closing().map(|close| close.code)
    }

    #[test]
    fn a_client_that_answers_pings_stays_and_a_silent_one_goes_after_two_heartbeats() {
        let (lively, silent) = (session(), session());
        for now in (0..60).map(|second| second * SECOND) {
            for session in [&lively, &silent] {
                session.tick(now, 0, &limits());
            }
            lively.note_alive(now);
            assert_eq!(code(&silent).is_some(), now >= 40 * SECOND, "{now}");
        }
        assert_eq!((code(&lively), code(&silent)), (None, Some(close::HEARTBEAT_MISSED)));
    }

    #[test]
    fn a_session_ends_with_its_token_and_when_its_client_reads_nothing() {
        let (expired, stalled) = (session(), session());
        expired.tick(0, 100 * SECOND - 1, &limits());
        assert_eq!(code(&expired), None);
        expired.tick(0, 100 * SECOND, &limits());
        assert_eq!(code(&expired), Some(close::TOKEN_EXPIRED));
        stalled.note_stalled(5 * SECOND);
        stalled.tick(35 * SECOND - 1, 0, &limits());
        assert_eq!(code(&stalled), None);
        stalled.tick(35 * SECOND, 0, &limits());
        assert_eq!(code(&stalled), Some(close::TOO_SLOW));
    }

    #[test]
    fn a_device_without_a_name_gets_one_that_its_messages_carry() {
        let (one, other) = (session(), session());
        assert!(one.actor.device.is_some() && one.actor.device != other.actor.device);
    }
}
