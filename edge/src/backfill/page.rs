//! A page of what a session missed, and the memory that it takes until it is in the outbox.

use std::sync::Arc;

use wire::ConversationId;
use wire::command::{Actor, Answer, Query, Refusal};

use crate::memory::Held;
use crate::shared::Shared;

/// What a change weighs at most, about: two of the largest bodies.
const CHANGE_BYTES_MAX: usize = 2 * wire::limits::BODY_BYTES;

/// Waits for memory, then asks the home of a conversation, in the name of `actor` or of the edge.
/// `limit`: the changes asked for.
pub(super) async fn ask(
    shared: Arc<Shared>,
    actor: Actor,
    (conversation, query, as_user): (ConversationId, Query, bool),
    limit: u16,
) -> (Result<Answer, Refusal>, Option<Held>) {
    let bytes = CHANGE_BYTES_MAX * usize::from(limit);
    let bytes = bytes.min(wire::limits::MESH_FRAME_BYTES);
    let mut held = shared.memory.hold(&actor, bytes).await;
    let result = shared.route.query(conversation, as_user.then_some(actor), query).await;
    if let (Some(held), Ok(answer)) = (&mut held, &result) {
        held.keep(weight_of(answer));
    }
    (result, held)
}

fn weight_of(answer: &Answer) -> usize {
    match answer {
        Answer::History { messages, .. } => {
            messages.iter().map(|message| message.bytes().len()).sum()
        }
        Answer::Changes { changes, .. } => {
            changes.iter().map(|delivery| delivery.change.bytes().len() + 256).sum()
        }
        _ => 0,
    }
}
