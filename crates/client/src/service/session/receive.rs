//! What a frame of the edge changes.

use std::borrow::Cow;
use std::time::Duration;

use tokio::time::Instant;
use tokio_tungstenite::tungstenite::{self, Message};
use wire::ConversationId;
use wire::client::event::{
    self, Envelope, ErrorPayload, JoinedPayload, LeftPayload, MessagePayload, UpdatedPayload,
};
use wire::client::{Event as Frame, close};

use super::{End, Live, words};
use crate::events::Event;
use crate::handle::SendError;
use crate::options::Read;
use crate::order::MessageOrder;
use crate::outbox::Refused;
use crate::service::Service;

impl Service {
    /// Handles what the socket has yielded.
    pub(super) fn receive(
        &mut self,
        message: Option<tungstenite::Result<Message>>,
        live: &mut Live,
    ) -> Result<(), End> {
        live.liveness.heard(Instant::now());
        match message {
            Some(Ok(Message::Text(text))) => {
                self.receive_frame(&text, live);
                Ok(())
            }
            Some(Ok(Message::Close(frame))) => {
                let (code, reason) =
                    frame.map_or((1005, String::new()), |f| (f.code.into(), f.reason.to_string()));
                let why = format!("the edge closed: {code} {reason}").trim_end().to_owned();
                Err(if code == close::SESSION_MOVED { End::Final(why) } else { End::Lost(why) })
            }
            Some(Ok(_)) => Ok(()),
            Some(Err(error)) => Err(End::Lost(words(&error))),
            None => Err(End::Lost("the edge hung up".into())),
        }
    }

    fn receive_frame(&mut self, text: &str, live: &mut Live) {
        if self.options.read == Read::Acks && is_message(text) {
            return;
        }
        let (envelope, frame) = match event::parse(text) {
            Ok(parsed) => parsed,
            Err(error) => {
                tracing::warn!(%error, "malformed frame of the edge skipped");
                return;
            }
        };
        match frame {
            Frame::Ack(ack) => {
                self.stalls = 0;
                live.liveness.acknowledged(self.options.stall_max);
                if let Some(ticket) = number(&envelope, 'm').and_then(|id| self.outbox.acked(id)) {
                    ticket.answer(Ok(ack));
                }
            }
            Frame::Message(message) => self.receive_message(&envelope, message),
            Frame::Joined(joined) => self.receive_joined(joined),
            Frame::Updated(update) => self.receive_updated(&envelope, update),
            Frame::Left(left) => self.receive_left(&envelope, &left),
            Frame::SyncDone(done) => self.sync_done(number(&envelope, 's'), &done, live),
            Frame::Error(error) => self.receive_error(&envelope, error, live),
            Frame::Goaway(goaway) => {
                let at = Instant::now() + Duration::from_millis(goaway.reconnect_after_ms);
                live.goaway.get_or_insert((at, goaway));
            }
            // `hello` was read before. `behind` announces messages that follow in order. `pong`
            // only shows that the edge is alive, and a frame of a later version is skipped.
            Frame::Hello(_) | Frame::Behind(_) | Frame::Pong(_) | Frame::Unknown(_) => {}
        }
    }

    fn receive_message(&mut self, envelope: &Envelope<()>, message: MessagePayload) {
        let Some(conversation) = conversation_of(envelope) else { return };
        if !self.orders.contains_key(&conversation) {
            // The program's own cursor says where delivery starts, not the first message that
            // happens to arrive.
            self.follow();
            let class = conversation.shard.durability;
            self.orders.entry(conversation).or_insert_with(|| MessageOrder::new(class, None));
        }
        self.settle(conversation, |order| {
            order.take(message.seq, message.epoch, Box::new(message))
        });
    }

    /// Delivery of a new conversation starts where the user joined it.
    fn receive_joined(&mut self, joined: JoinedPayload) {
        let conversation = joined.conversation_id;
        if !self.is_news(conversation, joined.ver) {
            return;
        }
        let joined_after = joined.joined_seq.saturating_sub(1);
        self.follow();
        let class = conversation.shard.durability;
        let order = self
            .orders
            .entry(conversation)
            .or_insert_with(|| MessageOrder::new(class, Some(joined_after)));
        if order.last().is_some_and(|last| last < joined.head_seq) {
            order.unanswered();
            self.pending_syncs.insert(conversation);
        }
        self.emit(Event::Joined(Box::new(joined)));
    }

    fn receive_updated(&mut self, envelope: &Envelope<()>, update: UpdatedPayload) {
        let Some(conversation) = conversation_of(envelope) else { return };
        if self.is_news(conversation, update.ver) {
            self.emit(Event::Updated { conversation, update: Box::new(update) });
        }
    }

    fn receive_left(&mut self, envelope: &Envelope<()>, left: &LeftPayload) {
        let Some(conversation) = conversation_of(envelope) else { return };
        if self.is_news(conversation, left.ver) {
            self.orders.remove(&conversation);
            self.pending_syncs.remove(&conversation);
            self.emit(Event::Left { conversation, by: left.by.clone() });
        }
    }

    /// Whether this change of members is newer than the last one delivered.
    fn is_news(&mut self, conversation: ConversationId, ver: u64) -> bool {
        let last = self.views.entry(conversation).or_default();
        let news = ver > *last;
        *last = ver.max(*last);
        news
    }

    fn receive_error(&mut self, envelope: &Envelope<()>, error: ErrorPayload, live: &mut Live) {
        let retry_after = error.retry_after_ms.map(Duration::from_millis);
        if let Some(id) = number(envelope, 'm') {
            if let Refused::Failed(ticket) =
                self.outbox.refused(id, error.code, retry_after, Instant::now())
            {
                ticket.answer(Err(SendError::Refused { code: error.code, message: error.message }));
            }
        } else if let Some(id) = number(envelope, 's') {
            self.sync_refused(id, envelope, &error, live);
        } else {
            self.emit(Event::Error(error));
        }
    }
}

/// Where the frame's event happened.
fn conversation_of(envelope: &Envelope<()>) -> Option<ConversationId> {
    let conversation = envelope.conversation_id.as_deref().and_then(|text| text.parse().ok());
    if conversation.is_none() {
        tracing::warn!(kind = %envelope.kind, "an event without a conversation is skipped");
    }
    conversation
}

/// The number in `re`, when the answered frame was of that sort.
fn number(envelope: &Envelope<()>, sort: char) -> Option<u64> {
    envelope.re.as_deref()?.strip_prefix(sort)?.parse().ok()
}

/// Whether the frame is a message, looked at as little as possible.
fn is_message(text: &str) -> bool {
    #[derive(serde::Deserialize)]
    struct Head<'a> {
        #[serde(borrow, rename = "type")]
        kind: Cow<'a, str>,
    }
    serde_json::from_str::<Head<'_>>(text).is_ok_and(|head| head.kind == "message.new")
}
