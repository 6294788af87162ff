//! Stable error codes, and what each means to HTTP and to a client that wonders whether to try
//! again.

use serde::{Deserialize, Serialize};

/// A code of the public protocol. The string never changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ErrorCode {
    /// Not an envelope: not JSON, too deep, a field of the wrong type.
    BadFrame,
    /// An envelope of a type that this server does not know.
    UnknownType,
    /// A frame, a body or a field over its limit.
    TooLarge,
    /// No token, or one that proves nothing.
    Unauthenticated,
    /// A good token, too late.
    TokenExpired,
    /// A member whose role does not allow it; or a token that does not reach this far.
    Forbidden,
    /// The conversation exists in the user's tenant, and the user is not in it.
    NotAMember,
    /// No such thing in the user's tenant.
    NotFound,
    /// Well formed, but makes no sense.
    BadRequest,
    /// Too many, too fast.
    RateLimited,
    /// The same `client_msg_id` with another body.
    ClientMsgIdReused,
    /// The home of the conversation cannot be reached now. Nothing is known of the request: send it
    /// again.
    HomeUnavailable,
    /// The tenant's zone forbids it.
    ResidencyDenied,
    /// This edge may not serve the tenant's zone; others may.
    WrongZone,
    /// This edge is going away.
    Draining,
    /// This node has too much to do.
    Overloaded,
    /// A defect on our side.
    Internal,
}

/// In binary forms a code goes by its name: one that a newer node invented is read as
/// [`ErrorCode::Internal`].
pub(crate) mod by_name {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::ErrorCode;

    pub(crate) fn serialize<S: Serializer>(code: &ErrorCode, to: S) -> Result<S::Ok, S::Error> {
        code.as_str().serialize(to)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<ErrorCode, D::Error> {
        let name = <&'de str>::deserialize(from)?;
        let known = ErrorCode::ALL.into_iter().find(|code| code.as_str() == name);
        Ok(known.unwrap_or(ErrorCode::Internal))
    }
}

impl ErrorCode {
    const ALL: [Self; 17] = [
        Self::BadFrame,
        Self::UnknownType,
        Self::TooLarge,
        Self::Unauthenticated,
        Self::TokenExpired,
        Self::Forbidden,
        Self::NotAMember,
        Self::NotFound,
        Self::BadRequest,
        Self::RateLimited,
        Self::ClientMsgIdReused,
        Self::HomeUnavailable,
        Self::ResidencyDenied,
        Self::WrongZone,
        Self::Draining,
        Self::Overloaded,
        Self::Internal,
    ];

    /// The code as it stands in the protocol.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BadFrame => "bad_frame",
            Self::UnknownType => "unknown_type",
            Self::TooLarge => "too_large",
            Self::Unauthenticated => "unauthenticated",
            Self::TokenExpired => "token_expired",
            Self::Forbidden => "forbidden",
            Self::NotAMember => "not_a_member",
            Self::NotFound => "not_found",
            Self::BadRequest => "bad_request",
            Self::RateLimited => "rate_limited",
            Self::ClientMsgIdReused => "client_msg_id_reused",
            Self::HomeUnavailable => "home_unavailable",
            Self::ResidencyDenied => "residency_denied",
            Self::WrongZone => "wrong_zone",
            Self::Draining => "draining",
            Self::Overloaded => "overloaded",
            Self::Internal => "internal",
        }
    }

    /// The HTTP status that carries it (RFC 9110; 421 as the protocol says).
    #[must_use]
    pub fn http_status(self) -> u16 {
        match self {
            Self::BadFrame | Self::UnknownType | Self::BadRequest => 400,
            Self::Unauthenticated | Self::TokenExpired => 401,
            Self::Forbidden | Self::NotAMember | Self::ResidencyDenied => 403,
            Self::NotFound => 404,
            Self::ClientMsgIdReused => 409,
            Self::TooLarge => 413,
            Self::WrongZone => 421,
            Self::RateLimited => 429,
            Self::Internal => 500,
            Self::HomeUnavailable | Self::Draining | Self::Overloaded => 503,
        }
    }

    /// Whether the same request may succeed later, unchanged.
    #[must_use]
    pub fn is_retryable(self) -> bool {
        matches!(
            self,
            Self::RateLimited | Self::HomeUnavailable | Self::Draining | Self::Overloaded
        )
    }
}

impl std::fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}
