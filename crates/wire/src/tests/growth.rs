//! Two minor versions understand each other: fields and kinds of the next one are read by this one,
//! and the other way.

use std::fmt::Debug;

use bytes::Bytes;
use proptest::prelude::*;
use serde::{Deserialize, Serialize};

use super::samples;
use crate::change::{Change, Event};
use crate::client::event::MessagePayload;
use crate::codec::{self, Head, Numbered, Reader, Record, SKIPPABLE, Unknown};
use crate::command::{Command, Delivery, Query, UserCommand};
use crate::message::{Body, Draft, Message};
use crate::stream::{FromOwner, NodeReply, NodeRequest, ToOwner, feed_frame};

/// What the next minor version writes behind the fields of this one.
fn later() -> Vec<u8> {
    postcard::to_stdvec(&("a field of 1.1", 42u64)).unwrap()
}

pub(super) fn numbered_grows<T: Numbered + PartialEq + Debug>(forms: impl IntoIterator<Item = T>) {
    for form in forms {
        let mut fields = Vec::new();
        let head = form.pack(&mut fields);
        assert_eq!(T::read(head, &fields).unwrap(), form);
        let known = T::unpack(head.kind, &mut Reader::new(&fields)).unwrap().is_some();
        if known {
            fields.extend(later());
            let read = T::read(head, &fields).unwrap();
            let mut again = Vec::new();
            read.pack(&mut again);
            assert!(read == form || again == fields, "with fields of a newer node: {read:?}");
        }
    }
}

pub(super) fn record_grows<T: Record + PartialEq + Debug>(record: &T) {
    let mut fields = Vec::new();
    record.write_fields(&mut fields);
    assert_eq!(T::read_fields(&fields).as_ref(), Ok(record));
    fields.extend(later());
    let read = T::read_fields(&fields).unwrap();
    let mut again = Vec::new();
    read.write_fields(&mut again);
    assert!(read == *record || again == fields, "with fields of a newer node: {read:?}");
}

fn second<N, T>(forms: Vec<(N, T)>) -> impl Iterator<Item = T> {
    forms.into_iter().map(|(_, form)| form)
}

#[test]
fn every_numbered_form_is_read_with_fields_of_a_newer_node() {
    numbered_grows(second(samples::to_owner()));
    numbered_grows(second(samples::from_owner()));
    numbered_grows(second(samples::node_requests()));
    numbered_grows(second(samples::node_replies()));
    numbered_grows(second(samples::commands()));
    numbered_grows(second(samples::queries()));
    numbered_grows(second(samples::answers()));
    numbered_grows(second(samples::ends()));
    numbered_grows(second(samples::changes()).map(|change| change.event));
    numbered_grows(second(samples::bodies()));
    numbered_grows([Body::from("hello")]);
}

#[test]
fn every_record_is_read_with_fields_of_a_newer_node() {
    for (_, change) in samples::changes() {
        record_grows(&change);
    }
    record_grows(&samples::actor());
    record_grows(&samples::draft());
    record_grows(&samples::message());
    record_grows(&samples::created());
    record_grows(&samples::members_changed());
    record_grows(&samples::joined());
    record_grows(&samples::left());
    record_grows(&samples::moved_out());
    record_grows(&samples::moved_in());
    record_grows(&samples::tenure());
    record_grows(&samples::ack());
    record_grows(&samples::view());
    record_grows(&samples::member());
    record_grows(&samples::line());
    record_grows(&samples::delivery());
    record_grows(&samples::refusal());
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(remote = "Self")]
struct Today {
    name: String,
    n: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(remote = "Self")]
struct Tomorrow {
    name: String,
    n: u64,
    #[serde(default)]
    color: Option<String>,
    #[serde(default)]
    sizes: Vec<u8>,
}

crate::record!(Today, Tomorrow);

#[test]
fn a_record_deep_inside_another_form_grows_and_shrinks() {
    let today = |n| Today { name: "tea".into(), n };
    let tomorrow = |n, color: Option<&str>| Tomorrow {
        name: "tea".into(),
        n,
        color: color.map(Into::into),
        sizes: vec![],
    };
    let bytes = postcard::to_stdvec(&(vec![today(1), today(2)], Some(today(3)), 4u64)).unwrap();
    let read: (Vec<Tomorrow>, Option<Tomorrow>, u64) = postcard::from_bytes(&bytes).unwrap();
    assert_eq!(read, (vec![tomorrow(1, None), tomorrow(2, None)], Some(tomorrow(3, None)), 4));

    let bytes =
        postcard::to_stdvec(&(vec![tomorrow(1, Some("red"))], Some(tomorrow(3, None)), 4u64));
    let read: (Vec<Today>, Option<Today>, u64) = postcard::from_bytes(&bytes.unwrap()).unwrap();
    assert_eq!(read, (vec![today(1)], Some(today(3)), 4));
}

#[test]
fn a_field_that_every_version_has_may_not_be_missing() {
    let bytes = postcard::to_stdvec(&"tea").unwrap();
    assert!(Today::read_fields(&bytes).is_err());
    assert!(codec::read::<u64>(&[]).is_err());
}

#[test]
fn a_field_of_a_later_version_is_its_default_in_a_numbered_form_of_an_older_one() {
    let conversation = samples::conversation();
    let mut fields = Vec::new();
    // As it was before `after_epoch`.
    codec::write(&(3u64, conversation, Some(1u64), vec!["ann"]), &mut fields);
    let read = ToOwner::read(Head { kind: 3, flags: 0 }, &fields).unwrap();
    assert!(matches!(read, ToOwner::Watch { rid: 3, after_epoch: None, .. }), "{read:?}");
}

#[test]
fn a_kind_of_a_newer_node_is_kept_byte_for_byte() {
    let unknown = Unknown { flags: SKIPPABLE, ..samples::unknown() };
    assert!(unknown.is_skippable() && !samples::unknown().is_skippable());
    let frame = ToOwner::Command {
        rid: 1,
        actor: samples::actor(),
        conversation: samples::conversation(),
        command: Command::Unknown(unknown.clone()),
    };
    assert_eq!(ToOwner::from_bytes(&frame.to_bytes()), Ok(frame));
    let frame = ToOwner::Query {
        rid: 1,
        actor: None,
        conversation: samples::conversation(),
        query: Query::Unknown(unknown.clone()),
    };
    assert_eq!(ToOwner::from_bytes(&frame.to_bytes()), Ok(frame));
    let change = samples::change(Event::Unknown(unknown.clone()));
    let bytes = change.to_bytes();
    let read = Change::from_bytes(&bytes).unwrap();
    assert_eq!((&read, read.to_bytes()), (&change, bytes));
    let body = Body::Unknown(unknown.clone());
    let draft = Draft { body, ..samples::draft() };
    let command = UserCommand::Send(draft.clone()).into();
    let frame = ToOwner::Command {
        rid: 1,
        actor: samples::actor(),
        conversation: samples::conversation(),
        command,
    };
    assert_eq!(ToOwner::from_bytes(&frame.to_bytes()), Ok(frame));
    let change = samples::change(Event::Message(Message { draft, ..samples::message() }));
    assert_eq!(Change::from_bytes(&change.to_bytes()), Ok(change));
    let frame = FromOwner::Unknown(unknown);
    assert_eq!(FromOwner::from_bytes(&frame.to_bytes()), Ok(frame));
}

#[test]
fn fields_of_a_newer_edge_stay_from_the_draft_to_the_log() {
    let mut fields = Vec::new();
    samples::draft().write_fields(&mut fields);
    fields.extend(later());
    let draft = Draft::read_fields(&fields).unwrap();
    assert_eq!(draft.later.bytes(), later());
    assert_eq!(Draft { later: Default::default(), ..draft.clone() }, samples::draft());
    let message = Message { draft, recovered: true, ..samples::message() };
    let change = samples::change(Event::Message(message.clone()));
    let read = Change::from_bytes(&change.to_bytes()).unwrap();
    assert_eq!(read.event.message(), Some(&message));
    assert_eq!(read.event.message().unwrap().draft.later.bytes(), later());
}

#[test]
fn a_client_is_shown_a_text_or_why_there_is_none() {
    let shown = |body| {
        let draft = Draft { body, ..samples::draft() };
        let message = Message { draft, ..samples::message() };
        let change = samples::change(Event::Message(message.clone()));
        let payload = MessagePayload::new(&change, &message);
        (payload.content.body, payload.body_kind)
    };
    assert_eq!(shown("hi".into()), ("hi".to_owned(), None));
    for (kind, body) in samples::bodies() {
        assert_eq!(shown(body), (String::new(), Some(kind.to_owned())));
    }
}

#[test]
fn an_error_code_of_a_newer_node_is_an_internal_error() {
    let mut fields = Vec::new();
    codec::write(&("conversation_on_fire", "it burns", None::<u64>), &mut fields);
    let refusal = crate::command::Refusal::read_fields(&fields).unwrap();
    assert_eq!(refusal.code, crate::ErrorCode::Internal);
}

#[test]
fn a_feed_of_encoded_deliveries_is_the_feed() {
    let deliveries: Vec<Delivery> = (0..200).map(|_| samples::delivery()).collect();
    let encoded: Vec<Bytes> = deliveries.iter().map(Delivery::to_bytes).collect();
    assert_eq!(feed_frame(&encoded), FromOwner::Feed { deliveries }.to_bytes());
    assert_eq!(feed_frame(&[]), FromOwner::Feed { deliveries: vec![] }.to_bytes());
}

proptest! {
    #[test]
    fn garbage_is_never_a_panic(
        kind in 0u16..80,
        bytes in proptest::collection::vec(any::<u8>(), 0..300),
    ) {
        let frame = [&kind.to_be_bytes()[..], &[0], &bytes].concat();
        for bytes in [&bytes, &frame] {
            let _ = ToOwner::from_bytes(bytes);
            let _ = FromOwner::from_bytes(bytes);
            let _ = NodeRequest::from_bytes(bytes);
            let _ = NodeReply::from_bytes(bytes);
            let _ = Change::from_bytes(bytes);
        }
        let head = Head { kind, flags: 0 };
        let _ = Command::read(head, &bytes);
        let _ = Query::read(head, &bytes);
        let _ = Event::read(head, &bytes);
    }

    #[test]
    fn a_cut_frame_is_never_a_panic(which in 0usize..17, cut in 0usize..400) {
        let to = samples::to_owner()[which].1.to_bytes();
        let _ = ToOwner::from_bytes(&to[..cut.min(to.len())]);
        let from = samples::from_owner()[which].1.to_bytes();
        let _ = FromOwner::from_bytes(&from[..cut.min(from.len())]);
    }
}
