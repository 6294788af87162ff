//! The codes with which links and streams are closed.

use quinn::VarInt;

/// A link closed on purpose: the node stops.
pub(crate) const SHUTDOWN: VarInt = VarInt::from_u32(1);
/// A link refused: what the node claims is not what its certificate proves.
pub(crate) const CLAIM: VarInt = VarInt::from_u32(2);
/// A link closed because another one to the same node is kept.
pub(crate) const SUPERSEDED: VarInt = VarInt::from_u32(3);
/// A link or stream closed because the peer did not follow the protocol.
pub(crate) const PROTOCOL: VarInt = VarInt::from_u32(4);
/// A stream refused: a queue is full.
pub(crate) const BUSY: VarInt = VarInt::from_u32(16);
/// A stream reset: a malformed frame or header.
pub(crate) const MALFORMED: VarInt = VarInt::from_u32(17);
/// A relayed stream refused: this relay has no link to the target.
pub(crate) const NO_ROUTE: VarInt = VarInt::from_u32(18);
/// A stream refused: of a later version.
pub(crate) const UNSUPPORTED: VarInt = VarInt::from_u32(19);
/// A channel refused: its purpose is of a newer node.
pub(crate) const PURPOSE: VarInt = VarInt::from_u32(21);
/// A stream given up by its user.
pub(crate) const ABORTED: VarInt = VarInt::from_u32(20);

/// For people.
pub(crate) fn name(code: VarInt) -> String {
    let code = u32::try_from(code.into_inner()).unwrap_or(u32::MAX);
    match VarInt::from_u32(code) {
        SHUTDOWN => "the node shuts down".to_owned(),
        CLAIM => "the claim differs from the certificate".to_owned(),
        SUPERSEDED => "superseded by another link".to_owned(),
        PROTOCOL => "protocol not followed".to_owned(),
        BUSY => "busy: a queue is full".to_owned(),
        MALFORMED => "malformed".to_owned(),
        NO_ROUTE => "the relay has no link to the target".to_owned(),
        UNSUPPORTED => "of a later version".to_owned(),
        PURPOSE => "its purpose is not known here".to_owned(),
        ABORTED => "given up".to_owned(),
        _ => format!("code {code}"),
    }
}
