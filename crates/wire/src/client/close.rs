//! WebSocket close codes (RFC 6455, section 7.4, and the protocol's own from 4000).

/// The edge goes away.
pub const GOING_AWAY: u16 = 1001;
/// Not WebSocket.
pub const PROTOCOL: u16 = 1002;
/// A binary frame.
pub const UNSUPPORTED: u16 = 1003;
/// A text frame that is not UTF-8.
pub const NOT_UTF8: u16 = 1007;
/// Repeated abuse.
pub const POLICY: u16 = 1008;
/// Over the frame limit.
pub const TOO_LARGE: u16 = 1009;
/// The token's time is over.
pub const TOKEN_EXPIRED: u16 = 4001;
/// The session goes on elsewhere.
pub const SESSION_MOVED: u16 = 4003;
/// No sign of life.
pub const HEARTBEAT_MISSED: u16 = 4008;
/// Too slow for too long.
pub const TOO_SLOW: u16 = 4030;
