//! How much the users of a tenant may ask of an edge.

/// Rates and counts of one tenant. A burst is what may come at once after a pause.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TenantLimits {
    /// Messages of a user in a second.
    pub sends_per_second: u16,
    /// Messages of a user at once.
    pub sends_burst: u16,
    /// Messages of all users at one edge in a second; none: no limit.
    pub tenant_sends_per_second: Option<u16>,
    /// Conversations that a user opens in a minute.
    pub conversations_per_minute: u16,
    /// Conversations that a user opens at once.
    pub conversations_burst: u16,
    /// Users that a user adds to conversations in an hour, and at once.
    pub members_added_per_hour: u16,
    /// HTTP requests of a user in a minute, and at once.
    pub requests_per_minute: u16,
    /// Frames of a user that are no messages, in a second; four times as many at once.
    pub frames_per_second: u16,
    /// Sessions of a user at one edge from devices of one type.
    pub sessions_per_device_type: u16,
}

impl Default for TenantLimits {
    fn default() -> Self {
        Self {
            sends_per_second: 20,
            sends_burst: 60,
            tenant_sends_per_second: None,
            conversations_per_minute: 5,
            conversations_burst: 50,
            members_added_per_hour: 10_000,
            requests_per_minute: 600,
            frames_per_second: 50,
            sessions_per_device_type: 10,
        }
    }
}
