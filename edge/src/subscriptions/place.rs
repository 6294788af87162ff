//! Where a session stands in a conversation, and what became of a wish to stand elsewhere.

/// A place in a conversation: the last change, and the last message at that change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct At {
    /// The change.
    pub(crate) ver: u64,
    /// The message.
    pub(crate) seq: u64,
}

/// From where on a session wants events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum From {
    /// From now on, but nothing before the change that made its user a member.
    Now {
        /// That change.
        at_ver: u64,
    },
    /// After this change.
    Ver(u64),
}

/// Where a session stands that is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Attached {
    /// It had everything up to here, and is off the live events now.
    TakenOff(At),
    /// It was off already.
    Off,
    /// The owner has not been heard yet.
    Asking,
}

/// What became of the wish to be put on again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rejoined {
    /// It is live; all messages up to this one are in its outbox or come from now on.
    Live {
        /// The last message.
        head_seq: u64,
    },
    /// More is missing than is at hand or fits: it has everything up to here, go on from there.
    Missing(At),
    /// It is not attached any more.
    Gone,
}
