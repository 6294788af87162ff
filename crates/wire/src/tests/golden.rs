//! The bytes of every form stand in `tests/golden`. When one changes, nodes and logs of the version
//! before it may no longer be understood: the test says which. `HEARTH_GOLDEN=write` writes the
//! files anew.

use std::fmt::Write as _;
use std::path::Path;

use data_encoding::HEXLOWER;

use super::samples;

pub(super) fn check<N: AsRef<str>>(family: &str, forms: impl IntoIterator<Item = (N, Vec<u8>)>) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/{family}.hex"));
    let mut now = String::new();
    for (name, bytes) in forms {
        writeln!(now, "{} {}", name.as_ref(), HEXLOWER.encode(&bytes)).unwrap();
    }
    if std::env::var("HEARTH_GOLDEN").as_deref() == Ok("write") {
        std::fs::write(&path, &now).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap();
    for (golden, now) in golden.lines().zip(now.lines()) {
        assert_eq!(now, golden, "the bytes of a form of {family} have changed");
    }
    assert_eq!(now.lines().count(), golden.lines().count(), "forms of {family} came or went");
}

#[test]
fn the_bytes_of_changes_stay() {
    check("change", samples::changes().into_iter().map(|(name, form)| (name, form.to_bytes())));
}

#[test]
fn the_bytes_of_frames_to_an_owner_stay() {
    let forms = samples::to_owner();
    check("to_owner", forms.into_iter().map(|(name, form)| (name, form.to_bytes().to_vec())));
}

#[test]
fn the_bytes_of_frames_from_an_owner_stay() {
    let forms = samples::from_owner();
    check("from_owner", forms.into_iter().map(|(name, form)| (name, form.to_bytes().to_vec())));
}

#[test]
fn the_bytes_of_control_frames_stay() {
    let requests = samples::node_requests();
    let requests = requests.into_iter().map(|(name, form)| (name, form.to_bytes().to_vec()));
    check("node_request", requests);
    let replies = samples::node_replies();
    check("node_reply", replies.into_iter().map(|(name, form)| (name, form.to_bytes().to_vec())));
}
