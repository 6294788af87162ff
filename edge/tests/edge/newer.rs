//! A core of the next minor version beside an edge of this one. The core's bytes come from an
//! encoder of the test, which appends fields and kinds.

use wire::change::{Change, Event};
use wire::codec::{self, Numbered as _, SKIPPABLE, Unknown};
use wire::command::Delivery;
use wire::stream::FromOwner;

use crate::harness::Bench;

/// A kind of everything that only the next version knows.
const NEW_KIND: u16 = 900;

/// What the next version writes behind the fields of this one.
fn later(out: &mut Vec<u8>) {
    codec::write(&("a field of the next version", 42u64), out);
}

/// What a core of the next version sends where one of this version sends `frame`. A form of which
/// kind and fields are known travels as they are, so any bytes can be sent as an unknown one.
pub(crate) fn frames(frame: &FromOwner) -> [FromOwner; 3] {
    let mut fields = Vec::new();
    let head = frame.pack(&mut fields);
    if let FromOwner::Feed { deliveries } = frame {
        fields.clear();
        let deliveries: Vec<Vec<u8>> = deliveries.iter().map(newer_delivery).collect();
        codec::write(&deliveries, &mut fields);
    }
    later(&mut fields);
    let news = |flags| {
        let mut news = Unknown::new(NEW_KIND, b"news".to_vec());
        news.flags = flags;
        FromOwner::Unknown(news)
    };
    [news(SKIPPABLE), news(0), FromOwner::Unknown(Unknown::new(head.kind, fields))]
}

fn newer_delivery(Delivery { change, view }: &Delivery) -> Vec<u8> {
    let mut fields = Vec::new();
    codec::write(&(newer_change(change), view), &mut fields);
    later(&mut fields);
    fields
}

/// A change of members is an event that this version does not know.
fn newer_change(change: &Change) -> Vec<u8> {
    let mut event = Vec::new();
    let mut head = change.event.pack(&mut event);
    later(&mut event);
    if matches!(change.event, Event::MembersChanged(_)) {
        head.kind = NEW_KIND;
    }
    let Change { conversation, ver, epoch, ts_ms, .. } = change;
    let mut fields = Vec::new();
    codec::write(&(conversation, ver, epoch, ts_ms, (head.kind, head.flags, event)), &mut fields);
    later(&mut fields);
    fields
}

#[tokio::test]
async fn an_edge_delivers_what_it_knows_of_a_newer_core_and_passes_over_the_rest() {
    let bench = Bench::start().await;
    bench.owner.homes().newer = true;
    let tea = bench.group("ann", &["bob"]);
    let mut ann = bench.session("ann").await;
    let seq = |frame: &serde_json::Value| frame["payload"]["seq"].as_u64().unwrap();
    bench.say("bob", tea, "m1", "hi");
    assert_eq!(seq(&ann.next_of("message.new").await), 1);
    // An event of the next version stands between two messages.
    bench.change("ann", tea, &["eve"], &[]);
    bench.say("bob", tea, "m2", "hi");
    assert_eq!(seq(&ann.next_of("message.new").await), 2);
    ann.say(tea, "m3", "hi").await;
    assert_eq!(seq(&ann.next_of("message.ack").await), 3);
    assert_eq!(seq(&ann.next_of("message.new").await), 3);
    // After a break it watches from behind the event that it does not know.
    bench.owner.homes().end_streams();
    bench.say("bob", tea, "m4", "hi");
    assert_eq!(seq(&ann.next_of("message.new").await), 4);
}
