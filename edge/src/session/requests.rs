//! What a client asks on its session. Checks are `wire`'s and the home's; here a frame finds its way.

use std::sync::Arc;

use wire::client::event::PongPayload;
use wire::client::request::RequestBody;
use wire::client::{Request, RequestError};
use wire::command::{Draft, Refusal, UserCommand};
use wire::{ConversationId, ErrorCode, MessageId};

use super::Session;
use super::catch_up::{self, Order};
use super::frame::{self, Echo};
use crate::route::pending::{Ask, ReplyTo, Sent};
use crate::shared::{Shared, wall_ms};

/// What a text frame was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Handled {
    /// Something that is answered.
    Asked,
    /// A `sync`: the events that it is about go out with its answer, so those that wait shall wait for it.
    Sync,
    /// No frame of the protocol, which a client may not send too often.
    Nonsense,
}

/// Handles one text frame.
pub(super) fn handle(shared: &Arc<Shared>, session: &Arc<Session>, text: &str) -> Handled {
    let Request { id, body } = match Request::parse(text) {
        Ok(request) => request,
        Err(error) => return refuse(session, error),
    };
    match body {
        RequestBody::Send { conversation, draft } => send(shared, session, id, conversation, draft),
        RequestBody::Sync { after } => {
            session.begin_requests(catch_up::weight(after.len()));
            catch_up::order(shared, session, Order::Sync { re: id, after });
            return Handled::Sync;
        }
        RequestBody::Ping => {
            let echo = Echo { re: id, ..Echo::default() };
            session.outbox.answer(frame::answer(
                "pong",
                echo,
                PongPayload { server_time_ms: wall_ms() },
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
    if let Err(refusal) = shared.admits(&session.actor.tenant, &conversation) {
        session.outbox.answer(frame::error(echo, refusal));
        return;
    }
    session.begin_request();
    let message_id = MessageId::derive(&conversation, &session.actor.user, &draft.client_msg_id);
    let to = Sent { session: session.clone(), echo, conversation, message_id };
    let ask = Ask::Command(session.actor.clone(), UserCommand::Send(draft));
    shared.route.ask(conversation, ask, ReplyTo::Sender(Box::new(to)));
}

fn refuse(session: &Session, error: RequestError) -> Handled {
    let RequestError { code, message, re, conversation_id, client_msg_id } = error;
    let echo = Echo { re, conversation_id, client_msg_id };
    session.outbox.answer(frame::error(echo, Refusal::new(code, message)));
    // Types of a later version and bodies that are too long are no abuse.
    if code == ErrorCode::BadFrame { Handled::Nonsense } else { Handled::Asked }
}
