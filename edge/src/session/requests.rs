//! What a client asks on its session. Checks are `wire`'s and the home's; here a frame finds its
//! way.

use std::sync::Arc;
use std::time::Duration;

use conversation::delivery::Settling;
use runtime::clock::unix_ms;
use wire::client::event::{AckPayload, PongPayload};
use wire::client::request::RequestBody;
use wire::client::{Request, RequestError};
use wire::command::{Answer, Draft, Refusal, UserCommand};
use wire::{ConversationId, ErrorCode, MessageId};

use super::frame::{self, Echo};
use super::state::Session;
use crate::backfill::{self, requests::BackfillRequest};
use crate::rates::{self, Asked};
use crate::route::Ask;
use crate::shared::Shared;

/// What a text frame was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Handled {
    /// Something that is answered.
    Asked,
    /// A `sync`. Events wait until it is placed.
    Sync,
    /// No frame of the protocol, which a client may not send too often.
    Nonsense,
}

/// Handles one text frame.
pub(crate) fn handle(shared: &Arc<Shared>, session: &Arc<Session>, text: &str) -> Handled {
    let Request { id, body } = match Request::parse(text) {
        Ok(request) => request,
        Err(error) => return refuse(session, error),
    };
    if !matches!(body, RequestBody::Send { .. })
        && let Err(refusal) = shared.rates.take(&session.actor, Asked::Frame)
    {
        let echo = Echo { re: id, ..Echo::default() };
        session.outbox.answer(frame::error(echo, refusal));
        return Handled::Asked;
    }
    match body {
        RequestBody::Send { conversation, draft } => send(shared, session, id, conversation, draft),
        RequestBody::Sync { after } => {
            session.begin_requests(backfill::weight(after.len()));
            // Before it is queued: whoever places it must find it counted.
            session.outbox.settle(Settling::sync);
            backfill::request(shared, session, BackfillRequest::Sync { re: id, after });
            return Handled::Sync;
        }
        RequestBody::Ping => {
            let echo = Echo { re: id, ..Echo::default() };
            session.outbox.answer(frame::answer(
                "pong",
                echo,
                PongPayload { server_time_ms: unix_ms() },
            ));
        }
    }
    Handled::Asked
}

fn send(
    shared: &Arc<Shared>,
    session: &Arc<Session>,
    re: Option<String>,
    conversation: ConversationId,
    draft: Draft,
) {
    let echo = Echo {
        re,
        conversation_id: Some(conversation.to_string()),
        client_msg_id: Some(draft.client_msg_id.to_string()),
    };
    let admitted = shared.admits(&session.actor.tenant, &conversation);
    if let Err(refusal) = admitted.and_then(|()| count_send(shared, session)) {
        session.outbox.answer(frame::error(echo, refusal));
        return;
    }
    session.begin_request();
    let message_id = MessageId::derive(&conversation, &session.actor.user, &draft.client_msg_id);
    let sent = Sent { session: session.clone(), echo, conversation, message_id };
    let ask = Ask::Command(session.actor.clone(), UserCommand::Send(draft));
    shared.route.ask(conversation, ask, Box::new(move |result| sent.reply(result)));
}

/// Counts a message.
///
/// # Errors
/// `rate_limited`, until the time that an earlier message was given is over.
fn count_send(shared: &Shared, session: &Session) -> Result<(), Refusal> {
    let now_ms = shared.now_ms();
    if let Some(wait_ms) = session.sends_refused_ms(now_ms) {
        return Err(rates::refused(Duration::from_millis(wait_ms), "send", "messages"));
    }
    let taken = shared.rates.take(&session.actor, Asked::Send);
    if let Err(Refusal { retry_after_ms: Some(wait_ms), .. }) = &taken {
        session.refuse_sends(now_ms, *wait_ms);
    }
    taken
}

/// A message that a session has sent.
struct Sent {
    session: Arc<Session>,
    echo: Echo,
    conversation: ConversationId,
    message_id: MessageId,
}

impl Sent {
    fn reply(self, result: Result<Answer, Refusal>) {
        let Self { session, echo, conversation, message_id } = self;
        let frame = match result {
            Ok(Answer::Ack(ack)) => {
                let payload =
                    AckPayload::new(&ack, message_id.to_string(), conversation.shard.durability);
                frame::answer("message.ack", echo, payload)
            }
            Ok(_) => frame::error(echo, frame::internal()),
            Err(refusal) => frame::error(echo, refusal),
        };
        session.end_request(frame);
    }
}

fn refuse(session: &Session, error: RequestError) -> Handled {
    let RequestError { code, message, re, conversation_id, client_msg_id } = error;
    let echo = Echo { re, conversation_id, client_msg_id };
    session.outbox.answer(frame::error(echo, Refusal::new(code, message)));
    // Types of a later version and bodies that are too long are no abuse.
    if code == ErrorCode::BadFrame { Handled::Nonsense } else { Handled::Asked }
}
