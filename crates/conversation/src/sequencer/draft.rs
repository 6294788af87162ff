//! What a draft may be, as far as it can be said without the conversation.

use wire::ErrorCode;
use wire::command::{Draft, Refusal};
use wire::limits::{BODY_BYTES, MENTIONS, META_BYTES};
use wire::message::Body;

/// Checks sizes and counts. An edge may call it before it bothers a home region; the sequencer
/// calls it in any case.
///
/// # Errors
/// `bad_request`, `too_large` or `unknown_type`, naming the field.
pub fn check_draft(draft: &Draft) -> Result<(), Refusal> {
    let bad = |message: &str| Err(Refusal::new(ErrorCode::BadRequest, message));
    let too_large = |message: String| Err(Refusal::new(ErrorCode::TooLarge, message));
    let body_len = match &draft.body {
        Body::Text(text) => text.len(),
        Body::Opaque(opaque) => opaque.content.len(),
        // It would have no fingerprint to compare a retry with.
        Body::Sealed(_) => return bad("body: only a stored body is sealed"),
        Body::Unknown(_) => {
            let message = "body: this node does not know bodies of this kind";
            return Err(Refusal::new(ErrorCode::UnknownType, message));
        }
    };
    if body_len == 0 {
        return bad("body: empty");
    }
    if body_len > BODY_BYTES {
        return too_large(format!("body: more than {BODY_BYTES} bytes"));
    }
    if draft.meta.as_ref().is_some_and(|meta| meta.len() > META_BYTES) {
        return too_large(format!("meta: more than {META_BYTES} bytes"));
    }
    if draft.later.bytes().len() > BODY_BYTES {
        return too_large(format!("fields of a newer version: more than {BODY_BYTES} bytes"));
    }
    if draft.mentions.len() > MENTIONS {
        return too_large(format!("mentions: more than {MENTIONS} users"));
    }
    if draft.reply_to == Some(0) {
        return bad("reply_to: the first seq is 1");
    }
    if draft.thread == Some(0) {
        return bad("thread: the first seq is 1");
    }
    Ok(())
}
