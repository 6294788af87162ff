//! What a sender writes, as JSON: the payload of `message.send`, and a part of everything else that
//! holds a message.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::code::ErrorCode;
use crate::command::Draft;
use crate::ids::{ClientMsgId, UserId};
use crate::limits;

/// What a sender writes. A field that is added here is in every form of a message.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageContent {
    /// UTF-8, 1..16384 bytes. Empty when the message has a `body_kind`.
    pub body: String,
    /// The seq it replies to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<u64>,
    /// The seq that started its thread.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thread: Option<u64>,
    /// Users it mentions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mentions: Vec<String>,
    /// The sender's own JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub meta: Option<Meta>,
}

/// Any JSON value, to the byte as its sender wrote it: the order of keys, the digits of numbers,
/// the white space.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Meta(Box<RawValue>);

impl Meta {
    /// None when the text is no JSON.
    #[must_use]
    pub fn new(text: String) -> Option<Self> {
        RawValue::from_string(text).ok().map(Self)
    }

    /// As its sender wrote it.
    #[must_use]
    pub fn text(&self) -> &str {
        self.0.get()
    }
}

impl PartialEq for Meta {
    fn eq(&self, other: &Self) -> bool {
        self.text() == other.text()
    }
}

impl Eq for Meta {}

impl MessageContent {
    /// The names of its fields.
    const FIELDS: [&str; 5] = ["body", "reply_to", "thread", "mentions", "meta"];

    /// A text and nothing else.
    #[must_use]
    pub fn text(body: impl Into<String>) -> Self {
        Self { body: body.into(), ..Self::default() }
    }

    /// As clients see a draft, or the draft of a message.
    #[must_use]
    pub fn of(draft: &Draft) -> Self {
        Self {
            body: draft.body.text().unwrap_or_default().to_owned(),
            reply_to: draft.reply_to,
            thread: draft.thread,
            mentions: draft.mentions.iter().map(ToString::to_string).collect(),
            meta: draft.meta.clone().and_then(Meta::new),
        }
    }

    /// Checks the limits that need no knowledge of the conversation.
    ///
    /// # Errors
    /// `bad_request` or `too_large`, with words for people.
    pub fn into_draft(self, client_msg_id: ClientMsgId) -> Result<Draft, (ErrorCode, String)> {
        let Self { body, reply_to, thread, mentions, meta } = self;
        let too_large = |message| Err((ErrorCode::TooLarge, message));
        if body.is_empty() {
            return Err((ErrorCode::BadRequest, "body is empty".into()));
        }
        if body.len() > limits::BODY_BYTES {
            return too_large(format!("body is over {} bytes", limits::BODY_BYTES));
        }
        if mentions.len() > limits::MENTIONS {
            return too_large(format!("more than {} mentions", limits::MENTIONS));
        }
        if meta.as_ref().is_some_and(|meta| meta.text().len() > limits::META_BYTES) {
            return too_large(format!("meta is over {} bytes", limits::META_BYTES));
        }
        let mentions = mentions
            .iter()
            .map(UserId::new)
            .collect::<Result<_, _>>()
            .map_err(|e| (ErrorCode::BadRequest, format!("mentions: {e}")))?;
        let meta = meta.map(|meta| meta.text().to_owned());
        let draft = Draft::text(client_msg_id, body);
        Ok(Draft { reply_to, thread, mentions, meta, ..draft })
    }
}

/// The content in a JSON object, and the object's other fields.
pub(super) fn split(object: &str) -> serde_json::Result<(MessageContent, Fields<'_>)> {
    let content = serde_json::from_str(object)?;
    let mut fields: Fields<'_> = serde_json::from_str(object)?;
    fields.retain(|name, _| !MessageContent::FIELDS.contains(&name.as_str()));
    Ok((content, fields))
}

pub(super) type Fields<'a> = BTreeMap<String, &'a RawValue>;

/// Makes JSON objects of structs that derive serde's traits with `#[serde(remote = "Self")]` and
/// have a field `content`, whose fields stand among their own. (Where serde's `flatten` reads, it
/// loses the text of `meta`.)
macro_rules! with_content {
    ($($type:ident),+ $(,)?) => {$(
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                // Not the trait's: the one that `remote` made.
                $type::serialize(self, to)
            }
        }
        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                use serde::de::{Error as _, value::MapDeserializer};
                let object = Box::<serde_json::value::RawValue>::deserialize(from)?;
                let (content, fields) =
                    $crate::client::content::split(object.get()).map_err(D::Error::custom)?;
                let fields = MapDeserializer::new(fields.into_iter());
                let this = $type::deserialize(fields).map_err(D::Error::custom)?;
                Ok(Self { content, ..this })
            }
        }
    )+};
}
pub(super) use with_content;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::http::PostMessage;

    #[test]
    fn the_names_of_the_fields_are_those_that_are_printed() {
        let content = MessageContent {
            body: "hi".into(),
            reply_to: Some(1),
            thread: Some(1),
            mentions: vec!["bob".into()],
            meta: Meta::new("1".into()),
        };
        let printed: serde_json::Map<String, serde_json::Value> =
            serde_json::from_str(&serde_json::to_string(&content).unwrap()).unwrap();
        let mut names = MessageContent::FIELDS;
        names.sort_unstable();
        assert_eq!(printed.keys().collect::<Vec<_>>(), names.each_ref());
    }

    #[test]
    fn an_object_is_read_with_its_content_and_nothing_beside() {
        let meta = r#"{ "z":1180591620717411303424, "a":[1.0, 1e400],"z2" :null}"#;
        let object = format!(
            r#"{{"body":"hi","meta":{meta},"conversation_id":"c","mentions":["bob"],"client_msg_id":"m"}}"#
        );
        let post: PostMessage = serde_json::from_str(&object).unwrap();
        assert_eq!((post.conversation_id.as_str(), post.client_msg_id.as_str()), ("c", "m"));
        assert_eq!(post.content.meta.as_ref().unwrap().text(), meta);
        let printed = serde_json::to_string(&post).unwrap();
        assert!(printed.contains(meta), "{printed}");
        assert_eq!(serde_json::from_str::<PostMessage>(&printed).unwrap(), post);
        for bad in [
            r#"{"body":"hi","client_msg_id":"m"}"#,
            r#"{"body":"hi","client_msg_id":"m","conversation_id":"c","other":1}"#,
            r#"{"body":7,"client_msg_id":"m","conversation_id":"c"}"#,
            r#"{"client_msg_id":"m","conversation_id":"c"}"#,
            "[]",
        ] {
            assert!(serde_json::from_str::<PostMessage>(bad).is_err(), "{bad}");
        }
    }
}
