//! What a program calls.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use rand::rngs::SmallRng;
use rand::{RngCore as _, SeedableRng as _};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use wire::client::MessageContent;
use wire::{ClientMsgId, ConversationId, ErrorCode};

use crate::events::Queue;
use crate::service::{Draft, Follows, Inputs, Service, State};
use crate::{Ack, Events, Http, Options};

/// Why a message has no acknowledgement.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The message breaks a limit or the edge refuses it for good. It was not appended by this
    /// call.
    #[error("{code}: {message}")]
    Refused {
        /// For programs.
        code: ErrorCode,
        /// For people.
        message: String,
    },
    /// The outbox is full ([`Options::outbox_messages`]). Nothing was sent.
    #[error("the outbox is full")]
    Full,
    /// The client ended first. Whether the message was appended is unknown; the same
    /// `client_msg_id` again tells.
    #[error("the client ended: {0}")]
    Closed(String),
}

/// One user on one device. Cheap to clone; the connection ends when the last clone and the
/// [`Events`] are dropped, or with [`Client::close`].
#[derive(Clone, Debug)]
pub struct Client {
    shared: Arc<Shared>,
    http: Http,
}

#[derive(Debug)]
pub(crate) struct Shared {
    drafts: mpsc::Sender<Draft>,
    follows: Arc<Follows>,
    state: watch::Receiver<State>,
    room: Arc<Semaphore>,
    cancel: CancellationToken,
    rng: Mutex<SmallRng>,
    done: CancellationToken,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

impl Client {
    /// Starts a client. It connects in the background, and goes on trying until it is closed or
    /// refused for good; messages may be sent at once.
    #[must_use]
    pub fn connect(options: Options) -> (Self, Events) {
        let mut rng = rng(options.seed);
        let queue = Queue::new(options.event_messages);
        let http = Http::new(&options);
        // Never full: whoever puts a message in has a permit of the outbox.
        let (drafts, inbox) = mpsc::channel(options.outbox_messages.max(1));
        let follows = Arc::new(Follows::default());
        let (state_out, state) = watch::channel(State::Connecting);
        let cancel = CancellationToken::new();
        let done = CancellationToken::new();
        let room = Arc::new(Semaphore::new(options.outbox_messages.max(1)));
        let service_rng = SmallRng::seed_from_u64(rng.next_u64());
        let inputs = Inputs { drafts: inbox, follows: follows.clone(), cancel: cancel.clone() };
        let service =
            Service::new(options, http.clone(), queue.clone(), inputs, state_out, service_rng);
        let guard = done.clone().drop_guard();
        // Ends by `cancel`; `done` tells whoever closes.
        tokio::spawn(async move {
            let _guard = guard;
            Box::pin(service.run()).await;
        });
        let shared =
            Arc::new(Shared { drafts, follows, state, room, cancel, rng: Mutex::new(rng), done });
        (Self { shared: shared.clone(), http }, Events { queue, _shared: shared })
    }

    /// Sends a text and waits until it is durable. Waits for room while the outbox is full.
    ///
    /// # Errors
    /// [`SendError`]; connection losses and retryable refusals are not errors, they only take
    /// longer.
    ///
    /// # Cancel safety
    /// Dropped while it waits for room, nothing is sent; dropped later, the message stays in the
    /// outbox and is sent.
    pub async fn send(
        &self,
        conversation: ConversationId,
        body: impl Into<String>,
    ) -> Result<Ack, SendError> {
        let payload = MessageContent::text(body);
        self.queue(conversation, self.new_message_id(), payload).await?.await
    }

    /// Puts a message into the outbox, behind those already there for its conversation, and gives
    /// what will be its acknowledgement. Waits for room while the outbox is full.
    ///
    /// # Errors
    /// When the message breaks a limit or the client has ended.
    ///
    /// # Cancel safety
    /// Dropped before it returns, nothing is sent.
    pub async fn queue(
        &self,
        conversation: ConversationId,
        client_msg_id: ClientMsgId,
        payload: MessageContent,
    ) -> Result<Pending, SendError> {
        let permit = self.shared.room.clone().acquire_owned().await;
        let permit = permit.map_err(|_| SendError::Closed("closed".into()))?;
        self.put(conversation, client_msg_id, payload, permit)
    }

    /// As [`Client::queue`], without waiting.
    ///
    /// # Errors
    /// As [`Client::queue`], and [`SendError::Full`].
    pub fn try_queue(
        &self,
        conversation: ConversationId,
        client_msg_id: ClientMsgId,
        payload: MessageContent,
    ) -> Result<Pending, SendError> {
        let permit = self.shared.room.clone().try_acquire_owned().map_err(|_| SendError::Full)?;
        self.put(conversation, client_msg_id, payload, permit)
    }

    fn put(
        &self,
        conversation: ConversationId,
        client_msg_id: ClientMsgId,
        payload: MessageContent,
        permit: OwnedSemaphorePermit,
    ) -> Result<Pending, SendError> {
        let draft = payload
            .into_draft(client_msg_id)
            .map_err(|(code, message)| SendError::Refused { code, message })?;
        let (reply, answer) = oneshot::channel();
        let draft = Draft { conversation, draft: Box::new(draft), permit, reply };
        match self.shared.drafts.try_send(draft) {
            Ok(()) => Ok(Pending(answer)),
            Err(mpsc::error::TrySendError::Full(_)) => Err(SendError::Full),
            Err(mpsc::error::TrySendError::Closed(_)) => Err(SendError::Closed(self.why_closed())),
        }
    }

    /// From now on messages of this conversation are delivered after seq `after`: those that are
    /// already there, and all that come. Without it, live messages are delivered from the first
    /// that arrives. Already delivered ones do not come again.
    ///
    /// # Errors
    /// When the client has ended.
    pub fn follow(&self, conversation: ConversationId, after: u64) -> Result<(), SendError> {
        if self.shared.drafts.is_closed() {
            return Err(SendError::Closed(self.why_closed()));
        }
        self.shared.follows.add(conversation, after);
        Ok(())
    }

    fn why_closed(&self) -> String {
        match self.state() {
            State::Closed { why } => why,
            _ => "closed".into(),
        }
    }

    /// What a message may be called: 32 hexadecimal digits that nobody draws twice.
    #[must_use]
    pub fn new_message_id(&self) -> ClientMsgId {
        let mut bytes = [0; 16];
        self.shared.rng.lock().unwrap_or_else(PoisonError::into_inner).fill_bytes(&mut bytes);
        let text = uuid::Builder::from_random_bytes(bytes).into_uuid().simple().to_string();
        ClientMsgId::new(text).expect("32 hexadecimal digits are an id")
    }

    /// How the connection is.
    #[must_use]
    pub fn state(&self) -> State {
        self.shared.state.borrow().clone()
    }

    /// Waits until there is a session.
    ///
    /// # Errors
    /// When the client has ended.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn ready(&self) -> Result<(), SendError> {
        let mut state = self.shared.state.clone();
        let reached = state
            .wait_for(|state| matches!(state, State::Connected { .. } | State::Closed { .. }))
            .await;
        match reached.map(|state| state.clone()) {
            Ok(State::Connected { .. }) => Ok(()),
            _ => Err(SendError::Closed(self.why_closed())),
        }
    }

    /// Groups, members, history, inbox: with this client's edges and tokens.
    #[must_use]
    pub fn http(&self) -> &Http {
        &self.http
    }

    /// Ends the client, politely where there is a session, within a second. What is not
    /// acknowledged fails with [`SendError::Closed`].
    pub async fn close(&self) {
        self.shared.cancel.cancel();
        self.shared.done.cancelled().await;
    }
}

/// The acknowledgement of a message that is in the outbox. Dropping it changes nothing for the
/// message.
#[derive(Debug)]
pub struct Pending(oneshot::Receiver<Result<Ack, SendError>>);

impl Future for Pending {
    type Output = Result<Ack, SendError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0)
            .poll(context)
            .map(|answer| answer.unwrap_or_else(|_| Err(SendError::Closed("closed".into()))))
    }
}

fn rng(seed: Option<u64>) -> SmallRng {
    let seed = seed.unwrap_or_else(|| {
        // Without entropy the ids of two clients might meet: then no client at all.
        getrandom::u64().expect("the operating system gives random numbers")
    });
    SmallRng::seed_from_u64(seed)
}
