//! Frames from a client.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::content::MessageContent;
use crate::code::ErrorCode;
use crate::command::Draft;
use crate::ids::{ClientMsgId, ConversationId};
use crate::limits;

/// Deepest nesting of a frame. Nothing in the protocol needs more than a handful; `meta` gets the
/// rest.
const DEPTH_MAX: usize = 32;

/// A frame from a client, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Repeated as `re` in whatever answers it.
    pub id: Option<String>,
    /// What it asks.
    pub body: RequestBody,
}

/// What a client may ask.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "nearly all requests send a message")]
pub enum RequestBody {
    /// `message.send`
    Send {
        /// Where.
        conversation: ConversationId,
        /// What.
        draft: Draft,
    },
    /// `sync`: what came after these seqs.
    Sync {
        /// The last seq the client has, for each conversation it asks about.
        after: BTreeMap<ConversationId, u64>,
    },
    /// `ping`
    Ping,
}

/// A frame that is not a request, with what of it can be repeated in the answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct RequestError {
    /// Why not.
    pub code: ErrorCode,
    /// For people.
    pub message: String,
    /// The frame's `id`, where it had one.
    pub re: Option<String>,
    /// The frame's `conversation_id`, where it had one.
    pub conversation_id: Option<String>,
    /// The frame's `client_msg_id`, where it had one.
    pub client_msg_id: Option<String>,
}

#[derive(Deserialize)]
struct RawEnvelope<'a> {
    #[serde(borrow, default)]
    id: Option<Cow<'a, str>>,
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow, default)]
    conversation_id: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    client_msg_id: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    payload: Option<&'a RawValue>,
}

/// The payload of `sync`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyncPayload {
    /// The last seq the client has, for each conversation it asks about.
    #[serde(default)]
    pub after: BTreeMap<ConversationId, u64>,
}

impl Request {
    /// Parses one text frame. The caller has checked its size against [`limits::FRAME_BYTES`].
    ///
    /// # Errors
    /// With the code of the protocol. Nothing was done.
    pub fn parse(text: &str) -> Result<Self, RequestError> {
        let bare = |code, message: &str| RequestError {
            code,
            message: message.into(),
            re: None,
            conversation_id: None,
            client_msg_id: None,
        };
        if is_deeper_than(text, DEPTH_MAX) {
            return Err(bare(ErrorCode::BadFrame, "nested too deeply"));
        }
        let raw: RawEnvelope<'_> = serde_json::from_str(text)
            .map_err(|_| bare(ErrorCode::BadFrame, "not an envelope: a JSON object with a type"))?;
        let id = raw.id.as_deref().map(str::to_owned);
        if id.as_ref().is_some_and(|id| id.chars().count() > limits::REQUEST_ID_CHARS) {
            return Err(bare(ErrorCode::BadFrame, "id is longer than 64 characters"));
        }
        raw.body().map(|body| Self { id: id.clone(), body }).map_err(|(code, message)| {
            RequestError {
                code,
                message,
                re: id,
                conversation_id: raw.conversation_id.as_deref().map(short),
                client_msg_id: raw.client_msg_id.as_deref().map(short),
            }
        })
    }

    /// Prints the frame, as the SDK sends it.
    #[must_use]
    pub fn to_json(&self) -> String {
        #[derive(Serialize)]
        struct Out<'a, P> {
            #[serde(skip_serializing_if = "Option::is_none")]
            id: Option<&'a str>,
            r#type: &'static str,
            #[serde(skip_serializing_if = "Option::is_none")]
            conversation_id: Option<ConversationId>,
            #[serde(skip_serializing_if = "Option::is_none")]
            client_msg_id: Option<&'a ClientMsgId>,
            payload: P,
        }
        let id = self.id.as_deref();
        match &self.body {
            RequestBody::Send { conversation, draft } => print(&Out {
                id,
                r#type: "message.send",
                conversation_id: Some(*conversation),
                client_msg_id: Some(&draft.client_msg_id),
                payload: MessageContent::of(draft),
            }),
            RequestBody::Sync { after } => print(&Out {
                id,
                r#type: "sync",
                conversation_id: None,
                client_msg_id: None,
                payload: SyncPayload { after: after.clone() },
            }),
            RequestBody::Ping => print(&Out {
                id,
                r#type: "ping",
                conversation_id: None,
                client_msg_id: None,
                payload: serde_json::Map::new(),
            }),
        }
    }
}

fn print<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("plain data in memory always serializes")
}

/// What is repeated of a frame that was not understood is bounded.
fn short(text: &str) -> String {
    text.chars().take(limits::NAME_BYTES).collect()
}

impl RawEnvelope<'_> {
    fn body(&self) -> Result<RequestBody, (ErrorCode, String)> {
        match &*self.kind {
            "message.send" => {
                let conversation = self.conversation()?;
                let client_msg_id = self
                    .client_msg_id
                    .as_deref()
                    .ok_or((ErrorCode::BadFrame, "client_msg_id is missing".into()))
                    .and_then(|text| {
                        ClientMsgId::new(text).map_err(|e| (ErrorCode::BadFrame, e.to_string()))
                    })?;
                let draft = self.payload::<MessageContent>()?.into_draft(client_msg_id)?;
                Ok(RequestBody::Send { conversation, draft })
            }
            "sync" => {
                let SyncPayload { after } = self.payload()?;
                if after.len() > limits::SYNC_CONVERSATIONS {
                    let message = format!("more than {} conversations", limits::SYNC_CONVERSATIONS);
                    return Err((ErrorCode::TooLarge, message));
                }
                Ok(RequestBody::Sync { after })
            }
            "ping" => Ok(RequestBody::Ping),
            _ => Err((
                ErrorCode::UnknownType,
                "this server does not know frames of this type".into(),
            )),
        }
    }

    fn conversation(&self) -> Result<ConversationId, (ErrorCode, String)> {
        let text = self
            .conversation_id
            .as_deref()
            .ok_or((ErrorCode::BadFrame, "conversation_id is missing".into()))?;
        text.parse().map_err(|e: crate::ids::IdError| (ErrorCode::BadFrame, e.to_string()))
    }

    fn payload<T: for<'a> Deserialize<'a>>(&self) -> Result<T, (ErrorCode, String)> {
        let raw = self.payload.ok_or((ErrorCode::BadFrame, "payload is missing".into()))?;
        serde_json::from_str(raw.get())
            .map_err(|e| (ErrorCode::BadFrame, format!("payload: {}", without_place(&e))))
    }
}

/// serde_json's words, without line and column: those of a payload would mislead.
fn without_place(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.find(" at line ") {
        Some(end) => text[..end].to_owned(),
        None => text,
    }
}

/// Whether brackets outside strings nest deeper than `max`. One pass, no recursion, before any
/// parser sees the text.
#[must_use]
pub fn is_deeper_than(text: &str, max: usize) -> bool {
    let (mut depth, mut in_string, mut escaped) = (0usize, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => {
                depth += 1;
                if depth > max {
                    return true;
                }
            }
            b']' | b'}' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CNV: &str = "cnv_ceaacaacaabqaaicamcakbqhbaequcymbuha6";

    fn send(extra: &str) -> String {
        format!(
            r#"{{"id":"1","type":"message.send","conversation_id":"{CNV}","client_msg_id":"a","payload":{extra}}}"#
        )
    }

    fn code(text: &str) -> ErrorCode {
        Request::parse(text).unwrap_err().code
    }

    #[test]
    fn a_send_is_read_whole() {
        let meta = r#"{"z": 1180591620717411303424, "a": [1.10], "a": 1}"#;
        let text = send(&format!(
            r#"{{"body":"hi","reply_to":1,"thread":2,"mentions":["bob"],"meta":{meta},"new_field":1}}"#,
        ));
        let request = Request::parse(&text).unwrap();
        let RequestBody::Send { draft, .. } = &request.body else { panic!("not a send") };
        assert_eq!(
            (draft.body.text(), draft.reply_to, draft.thread),
            (Some("hi"), Some(1), Some(2))
        );
        assert_eq!(draft.meta.as_deref(), Some(meta));
        let nothing = Request::parse(&send(r#"{"body":"hi","meta":null}"#)).unwrap();
        assert!(matches!(nothing.body, RequestBody::Send { draft, .. } if draft.meta.is_none()));
        assert_eq!(Request::parse(&request.to_json()).unwrap(), request);
    }

    #[test]
    fn what_is_wrong_has_its_code_and_repeats_what_the_frame_had() {
        assert_eq!(code(""), ErrorCode::BadFrame);
        assert_eq!(code("[]"), ErrorCode::BadFrame);
        assert_eq!(code(r#"{"type":7}"#), ErrorCode::BadFrame);
        assert_eq!(code(r#"{"type":"nonsense"}"#), ErrorCode::UnknownType);
        assert_eq!(code(r#"{"type":"sync"}"#), ErrorCode::BadFrame);
        assert_eq!(code(r#"{"type":"sync","payload":{"after":{"x":1}}}"#), ErrorCode::BadFrame);
        assert_eq!(code(&send("{}")), ErrorCode::BadFrame);
        assert_eq!(code(&send(r#"{"body":7}"#)), ErrorCode::BadFrame);
        assert_eq!(code(&send(r#"{"body":""}"#)), ErrorCode::BadRequest);
        assert_eq!(
            code(&send(&format!(r#"{{"body":"{}"}}"#, "x".repeat(16_385)))),
            ErrorCode::TooLarge
        );
        assert_eq!(
            code(&format!(r#"{{"type":"ping","payload":{}1{}}}"#, "[".repeat(99), "]".repeat(99))),
            ErrorCode::BadFrame
        );
        let error = Request::parse(&send(r#"{"body":""}"#)).unwrap_err();
        assert_eq!((error.re.as_deref(), error.client_msg_id.as_deref()), (Some("1"), Some("a")));
        assert_eq!(error.conversation_id.as_deref(), Some(CNV));
    }

    #[test]
    fn brackets_in_strings_do_not_nest() {
        let text = format!(r#"{{"type":"ping","id":"{}"}}"#, "[".repeat(60));
        assert_eq!(Request::parse(&text).unwrap().body, RequestBody::Ping);
        assert!(is_deeper_than(r#"["\"[[",[[ "#, 2));
    }

    proptest! {
        #[test]
        fn garbage_is_never_a_panic(text in ".{0,200}", payload in ".{0,60}") {
            let _ = Request::parse(&text);
            let _ = Request::parse(&send(&payload));
        }

        #[test]
        fn any_body_within_the_limit_survives(body in "(?s).{1,300}") {
            let draft = MessageContent::text(body).into_draft(ClientMsgId::new("a").unwrap()).unwrap();
            let request = Request { id: None, body: RequestBody::Send { conversation: CNV.parse().unwrap(), draft } };
            prop_assert_eq!(Request::parse(&request.to_json()).unwrap(), request);
        }
    }
}
