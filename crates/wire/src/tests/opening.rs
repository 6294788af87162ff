//! How links and streams begin: their bytes, and how they grow.

use proptest::prelude::*;

use super::golden::check;
use super::growth::{numbered_grows, record_grows};
use super::samples;
use crate::codec::CodecError;
use crate::ids::NodeId;
use crate::stream::{Hello, Notice, Purpose, REPORTED_LINKS_MAX, StreamHeader};
use crate::version::{Feature, Features};

fn node(name: &str) -> NodeId {
    name.parse().unwrap()
}

fn purposes() -> Vec<(&'static str, Purpose)> {
    vec![
        ("shard", Purpose::Shard(samples::conversation().shard)),
        ("control", Purpose::Control),
        ("unknown", Purpose::Unknown(samples::unknown())),
    ]
}

fn headers() -> Vec<(String, StreamHeader)> {
    let features = || [Feature::Moves].into_iter().collect();
    let open = purposes().into_iter().map(|(name, purpose)| {
        (format!("open_{name}"), StreamHeader::Open { purpose, features: features() })
    });
    open.chain([
        ("control".to_owned(), StreamHeader::Control),
        ("relay".to_owned(), StreamHeader::Relay(node("r3/core/1"))),
        ("relayed".to_owned(), StreamHeader::Relayed(node("r1/edge/2"))),
        ("unknown".to_owned(), StreamHeader::Unknown(samples::unknown())),
    ])
    .collect()
}

fn hello() -> Hello {
    Hello {
        node: node("r2/core/1"),
        features: [Feature::Moves].into_iter().collect(),
        draining: true,
        incarnation: 1_700_000_000_000,
        addr: "192.0.2.7:7400".parse().unwrap(),
        connection: 77,
        lost: Some(76),
    }
}

fn notices() -> Vec<(&'static str, Notice)> {
    let without =
        Hello { features: Features::default(), addr: "[::1]:7".parse().unwrap(), ..hello() };
    vec![
        ("hello", Notice::Hello(hello())),
        ("hello_without_features", Notice::Hello(without)),
        ("links", Notice::Links(vec![(node("r1/edge/2"), 1_500), (node("r3/core/1"), 88_000)])),
        ("unknown", Notice::Unknown(samples::unknown())),
    ]
}

#[test]
fn the_bytes_of_headers_and_notices_stay() {
    check("header", headers().into_iter().map(|(name, form)| (name, form.to_bytes().to_vec())));
    check("notice", notices().into_iter().map(|(name, form)| (name, form.to_bytes().to_vec())));
}

#[test]
fn headers_and_notices_are_read_with_fields_of_a_newer_node() {
    numbered_grows(purposes().into_iter().map(|(_, form)| form));
    numbered_grows(headers().into_iter().map(|(_, form)| form));
    numbered_grows(notices().into_iter().map(|(_, form)| form));
    record_grows(&hello());
}

#[test]
fn a_report_of_too_many_links_is_malformed() {
    let report = |count| Notice::Links(vec![(node("r1/edge/2"), 1); count]).to_bytes();
    assert!(Notice::from_bytes(&report(REPORTED_LINKS_MAX)).is_ok());
    let read = Notice::from_bytes(&report(REPORTED_LINKS_MAX + 1));
    assert!(matches!(read, Err(CodecError::Fields(_))), "{read:?}");
}

proptest! {
    #[test]
    fn torn_headers_and_notices_are_never_a_panic(
        kind in 0u16..8,
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
        cut in any::<prop::sample::Index>(),
    ) {
        let garbage = [&kind.to_be_bytes()[..], &[0], &bytes].concat();
        for bytes in [&bytes, &garbage] {
            let _ = StreamHeader::from_bytes(bytes);
            let _ = Notice::from_bytes(bytes);
        }
        for (_, header) in headers() {
            let whole = header.to_bytes();
            let _ = StreamHeader::from_bytes(&whole[..cut.index(whole.len())]);
        }
        for (name, notice) in notices() {
            let whole = notice.to_bytes();
            let read = Notice::from_bytes(&whole[..cut.index(whole.len())]);
            prop_assert!(read.is_err() || name == "unknown", "{name}: {read:?}");
        }
    }
}
