//! Groups, members, history and inbox over HTTP, at whatever edge answers.
//!
//! A request goes to the preferred edge; when that one cannot be reached or says to come back
//! later, to the next, until it is answered or [`crate::Options::http_timeout`] is over. Everything
//! here may be repeated without harm, but for one thing: when the answer to [`Http::create_group`]
//! is lost, a second, empty group may be left behind.

mod transport;

use std::sync::Arc;
use std::time::Duration;

use ::http::{Method, StatusCode};
use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::{Instant, sleep, timeout};
use wire::client::event::{GroupPayload, MemberPayload, MessagePayload};
use wire::client::http::{
    ChangeMembers, CreateGroup, HistoryResponse, InboxEntry, InboxResponse, OpenConversation,
};
use wire::client::http::{Problem, StreamTokenRequest, StreamTokenResponse};
use wire::{ConversationId, ConversationKind, ErrorCode};

use crate::rotation::Rotation;
use crate::{Endpoints, Options, Tokens};
pub(crate) use transport::{Answer, Transport, connect};

/// One attempt at one edge. Longer than an edge waits for a home that is being taken over.
const ATTEMPT: Duration = Duration::from_secs(20);

/// Why a request has no answer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum HttpError {
    /// The edge refuses it for good. Nothing was changed.
    #[error("{code}: {detail}")]
    Refused {
        /// For programs.
        code: ErrorCode,
        /// For people.
        detail: String,
    },
    /// Nobody answered in time. Whether anything was changed is unknown.
    #[error("no edge answered within {seconds} s: {last}", seconds = .timeout.as_secs())]
    TimedOut {
        /// How long it was tried.
        timeout: Duration,
        /// What the last attempt came to.
        last: String,
    },
    /// The answer is not what the protocol says. Whether anything was changed is unknown.
    #[error("{url} answered with status {status} and something that is not the protocol's")]
    Garbled {
        /// Who.
        url: String,
        /// How.
        status: u16,
    },
}

/// The HTTP side of a client; also of use alone. Cheap to clone.
#[derive(Clone)]
pub struct Http {
    transport: Transport,
    endpoints: Arc<dyn Endpoints>,
    tokens: Arc<dyn Tokens>,
    timeout: Duration,
    backoff_max: Duration,
}

impl std::fmt::Debug for Http {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Http").field("timeout", &self.timeout).finish_non_exhaustive()
    }
}

/// What one attempt came to.
enum Outcome {
    Done(Bytes),
    Final(HttpError),
    Elsewhere { why: String, alternatives: Vec<String>, retry_after: Option<Duration> },
}

impl Http {
    /// With the edges, tokens and timeout of these options. Connects when it is asked something.
    #[must_use]
    pub fn new(options: &Options) -> Self {
        Self {
            transport: Transport::new(options.net.clone()),
            endpoints: options.endpoints.clone(),
            tokens: options.tokens.clone(),
            timeout: options.http_timeout,
            backoff_max: options.backoff_max,
        }
    }

    /// The same, with edges of its own: to ask one region, say.
    #[must_use]
    pub fn at(&self, endpoints: Arc<dyn Endpoints>) -> Self {
        Self { endpoints, ..self.clone() }
    }

    /// A new group, the caller its owner. At most [`wire::limits::MEMBERS_PER_CHANGE`] members at
    /// once.
    ///
    /// # Errors
    /// [`HttpError`].
    pub async fn create_group(&self, request: &CreateGroup) -> Result<GroupPayload, HttpError> {
        self.post("/v1/groups", request).await
    }

    /// The direct conversation with another user: made, or found.
    ///
    /// # Errors
    /// [`HttpError`].
    pub async fn open_direct(&self, user: &str) -> Result<GroupPayload, HttpError> {
        let request = OpenConversation { kind: ConversationKind::Direct, user_id: user.to_owned() };
        self.post("/v1/conversations", &request).await
    }

    /// Adds, removes, changes roles: all or nothing. What is already so is no error.
    ///
    /// # Errors
    /// [`HttpError`].
    pub async fn change_members(
        &self,
        conversation: ConversationId,
        change: &ChangeMembers,
    ) -> Result<GroupPayload, HttpError> {
        self.post(&format!("/v1/groups/{conversation}/members"), change).await
    }

    /// A conversation with the first page of its members.
    ///
    /// # Errors
    /// [`HttpError`].
    pub async fn group(&self, conversation: ConversationId) -> Result<GroupPayload, HttpError> {
        self.get(&format!("/v1/groups/{conversation}")).await
    }

    /// All members, page by page.
    ///
    /// # Errors
    /// [`HttpError`].
    pub async fn members(
        &self,
        conversation: ConversationId,
    ) -> Result<Vec<MemberPayload>, HttpError> {
        let mut page = self.group(conversation).await?;
        let mut members = page.members;
        while let Some(after) = page.members_next.take() {
            page = self
                .get(&format!("/v1/groups/{conversation}?members_after={}", encode(&after)))
                .await?;
            members.append(&mut page.members);
        }
        Ok(members)
    }

    /// A page of messages, oldest first. Neither bound: the newest page.
    ///
    /// # Errors
    /// [`HttpError`].
    pub async fn history(
        &self,
        conversation: ConversationId,
        before: Option<u64>,
        after: Option<u64>,
        limit: u16,
    ) -> Result<HistoryResponse, HttpError> {
        let mut path = format!("/v1/conversations/{conversation}/messages?limit={limit}");
        before.inspect(|seq| path += &format!("&before={seq}"));
        after.inspect(|seq| path += &format!("&after={seq}"));
        self.get(&path).await
    }

    /// All messages after `after`, oldest first, page by page.
    ///
    /// # Errors
    /// [`HttpError`].
    pub async fn history_after(
        &self,
        conversation: ConversationId,
        mut after: u64,
    ) -> Result<Vec<MessagePayload>, HttpError> {
        let mut all = Vec::new();
        loop {
            let page = self
                .history(conversation, None, Some(after), wire::limits::HISTORY_PAGE_MAX)
                .await?;
            let Some(last) = page.messages.last().map(|message| message.seq) else {
                return Ok(all);
            };
            all.extend(page.messages);
            // A page that does not move on would be asked for for ever.
            if !page.has_more || last <= after {
                return Ok(all);
            }
            after = last;
        }
    }

    /// All conversations of the user, page by page.
    ///
    /// # Errors
    /// [`HttpError`].
    pub async fn inbox(&self) -> Result<Vec<InboxEntry>, HttpError> {
        let base = format!("/v1/inbox?limit={}", wire::limits::INBOX_PAGE_MAX);
        let mut page: InboxResponse = self.get(&base).await?;
        let mut all = page.conversations;
        while let Some(cursor) = page.next.take() {
            page = self.get(&format!("{base}&cursor={}", encode(&cursor))).await?;
            all.append(&mut page.conversations);
        }
        Ok(all)
    }

    /// A stream token for a device, from one given edge, tried once.
    pub(crate) async fn stream_token(
        &self,
        url: &str,
        identity: &str,
        device: &str,
    ) -> Result<String, Answer> {
        let request = StreamTokenRequest { device_id: Some(device.to_owned()) };
        let answer = self
            .transport
            .call(url, Method::POST, "/v1/ws/token", identity, Some(print(&request)))
            .await;
        match answer {
            Answer::Said { status, body } if status.is_success() => {
                match serde_json::from_slice::<StreamTokenResponse>(&body) {
                    Ok(response) => Ok(response.token),
                    Err(_) => Err(Answer::Said { status, body }),
                }
            }
            other => Err(other),
        }
    }

    async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, HttpError> {
        self.request(Method::POST, path, Some(print(body))).await
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, HttpError> {
        self.request(Method::GET, path, None).await
    }

    async fn request<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<Bytes>,
    ) -> Result<T, HttpError> {
        let deadline = Instant::now() + self.timeout;
        let mut rotation = Rotation::new(Duration::from_millis(100), self.backoff_max);
        let mut last = "no edge is known".to_owned();
        loop {
            rotation.begin(self.endpoints.edges().await);
            let mut pause = None;
            while let Some(url) = rotation.next() {
                let left = deadline.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return Err(HttpError::TimedOut { timeout: self.timeout, last });
                }
                let attempt = self.attempt(&url, &method, path, body.clone());
                match timeout(ATTEMPT.min(left), attempt).await {
                    Ok(Outcome::Done(bytes)) => {
                        return serde_json::from_slice(&bytes)
                            .map_err(|_| HttpError::Garbled { url, status: 200 });
                    }
                    Ok(Outcome::Final(error)) => return Err(error),
                    Ok(Outcome::Elsewhere { why, alternatives, retry_after }) => {
                        last = format!("{url}: {why}");
                        pause = pause.max(retry_after);
                        rotation.suggest(&url, &alternatives);
                    }
                    Err(_) => {
                        last = format!("{url}: no answer within {} s", ATTEMPT.min(left).as_secs())
                    }
                }
            }
            let pause = rotation.failed(0.5).max(pause.unwrap_or_default()).min(self.backoff_max);
            if Instant::now() + pause >= deadline {
                return Err(HttpError::TimedOut { timeout: self.timeout, last });
            }
            sleep(pause).await;
        }
    }

    async fn attempt(
        &self,
        url: &str,
        method: &Method,
        path: &str,
        body: Option<Bytes>,
    ) -> Outcome {
        let elsewhere =
            |why: String| Outcome::Elsewhere { why, alternatives: Vec::new(), retry_after: None };
        let token = match self.tokens.token().await {
            Ok(token) => token,
            Err(error) => return elsewhere(error.to_string()),
        };
        match self.transport.call(url, method.clone(), path, &token, body).await {
            Answer::Nobody(why) => elsewhere(why),
            Answer::Said { status, body } if status.is_success() => Outcome::Done(body),
            Answer::Said { status, body } => refusal(url, status, &body),
        }
    }
}

/// Plain requests to whatever speaks HTTP beside the protocol: the control API of a local mesh,
/// admin listeners.
#[derive(Clone)]
pub struct Plain(Transport);

impl Plain {
    /// Connects when it is asked something.
    #[must_use]
    pub fn new(net: Arc<dyn net::Net>) -> Self {
        Self(Transport::new(net))
    }

    /// One request, tried once; gives status and body, whatever the status.
    ///
    /// # Errors
    /// In words for people, when nobody answered. Whether anything was changed is unknown then.
    pub async fn call(
        &self,
        method: Method,
        url: &str,
        path: &str,
        bearer: &str,
    ) -> Result<(StatusCode, Bytes), String> {
        match self.0.call(url, method, path, bearer, None).await {
            Answer::Said { status, body } => Ok((status, body)),
            Answer::Nobody(why) => Err(why),
        }
    }
}

fn refusal(url: &str, status: StatusCode, body: &[u8]) -> Outcome {
    match serde_json::from_slice::<Problem>(body) {
        Ok(problem) if is_elsewhere(problem.code, &problem.alternatives) => Outcome::Elsewhere {
            why: format!("{}: {}", problem.code, problem.detail),
            alternatives: problem.alternatives,
            retry_after: problem.retry_after_ms.map(Duration::from_millis),
        },
        Ok(Problem { code, detail, .. }) => Outcome::Final(HttpError::Refused { code, detail }),
        Err(_) if status.is_server_error() => Outcome::Elsewhere {
            why: format!("status {}", status.as_u16()),
            alternatives: Vec::new(),
            retry_after: None,
        },
        Err(_) => {
            Outcome::Final(HttpError::Garbled { url: url.to_owned(), status: status.as_u16() })
        }
    }
}

/// Whether another edge, or the same one later, may do better. `internal` hides an unknown outcome:
/// asked again.
pub(crate) fn is_elsewhere(code: ErrorCode, alternatives: &[String]) -> bool {
    match code {
        ErrorCode::WrongZone => !alternatives.is_empty(),
        ErrorCode::TokenExpired | ErrorCode::Internal => true,
        code => code.is_retryable(),
    }
}

fn print(value: &impl Serialize) -> Bytes {
    serde_json::to_vec(value).expect("plain data in memory always serializes").into()
}

/// For one value of a query string.
#[must_use]
pub fn encode(text: &str) -> String {
    use std::fmt::Write as _;
    text.bytes().fold(String::new(), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            write!(out, "%{byte:02X}").expect("a String takes everything");
        }
        out
    })
}
