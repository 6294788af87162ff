use super::finding::{Finding, none};
use super::tree::{files, read};

/// Retired names of types, each with the word of `docs/glossary.md` that replaced it.
const TYPES: &[(&str, &str)] = &[
    ("Whereabouts", "Location"),
    ("Stay", "Tenure"),
    ("Breaker", "LeaseRevoker"),
    ("Keeper", "LeaseRenewer"),
    ("Keepers", "LeaseRenewer"),
    ("HeldLease", "TimedLease"),
    ("Moment", "DecisionContext"),
    ("TakeIn", "AcceptTransfer"),
    ("TakenIn", "TransferAccepted"),
    ("Wish", "MembershipRequest"),
    ("Met", "ConversationRef"),
    ("Stretch", "ScanPage"),
    ("NotDecided", "FailoverError"),
    ("ShardOutlook", "ShardLossEstimate"),
    ("Carriers", "ShardClient"),
    ("Everywhere", "ReplicationWatermark"),
    ("Standing", "ShardState"),
    ("Desire", "DesiredOwner"),
    ("NotHere", "NotOwner"),
    ("Owed", "PendingReply"),
    ("Teller", "InboxNotifier"),
    ("ReadAgain", "NeedsReload"),
    ("Directory", "ShardTable"),
    ("Road", "the route, or the connection"),
    ("Town", "Workload"),
    ("Hush", "Quiesce"),
    ("Door", "Endpoint"),
    ("Duty", "Lifecycle"),
    ("Printer", "Encoder"),
];

/// Retired words, in any case and as a part of any name.
const WORDS: &[(&str, &str)] = &[
    ("whereabouts", "location"),
    ("hearsay", "unconfirmed"),
    ("breaker", "revoker"),
    ("farewell", "shutdown, or close"),
    ("errand", "operation"),
    ("errands", "operations"),
    ("goodbye", "close"),
    ("knock", "probe"),
    ("knocked", "probed"),
    ("patience", "timeout"),
];

/// Retired phrases.
const PHRASES: &[(&str, &str)] = &[
    ("of class `region`", "single-region"),
    ("of class `multi-region`", "multi-region"),
    ("of class region", "single-region"),
];

/// Pages that tell which words were retired.
const TELL_OF_THEM: &[&str] = &["docs/decisions/0009-lines-and-words.md", "tests/tidy/words.rs"];

#[test]
fn retired_words_stay_retired() {
    let mut findings = Vec::new();
    for_each_line(|file, line, text| {
        for word in text.split(|c: char| !(c.is_alphanumeric() || c == '_')) {
            if let Some((_, cure)) = TYPES.iter().find(|(retired, _)| *retired == word) {
                findings.push(Finding::on_line(file, line, format!("says {word}: write {cure}")));
            }
            for part in parts(word) {
                if let Some((_, cure)) = WORDS.iter().find(|(retired, _)| *retired == part) {
                    let what = format!("says {part}: write {cure}");
                    findings.push(Finding::on_line(file, line, what));
                }
            }
        }
        for (phrase, cure) in PHRASES.iter().filter(|(phrase, _)| text.contains(phrase)) {
            let what = format!("says \"{phrase}\": write {cure}");
            findings.push(Finding::on_line(file, line, what));
        }
    });
    none("one word, one meaning, the field's", "see docs/glossary.md", findings);
}

#[test]
fn nobody_is_he() {
    let mut findings = Vec::new();
    for_each_line(|file, line, text| {
        let words = prose(file, text).split(|c: char| !(c.is_alphanumeric() || c == '_'));
        let says = words.map(str::to_lowercase);
        for word in says.filter(|word| ["he", "his", "him", "himself"].contains(&word.as_str())) {
            findings.push(Finding::on_line(file, line, format!("says \"{word}\"")));
        }
    });
    none("a person is they", "write \"they\", \"the user\" or \"the caller\"", findings);
}

/// What of a line is for people: all of a page, the comment of a source or a manifest.
fn prose<'a>(file: &str, text: &'a str) -> &'a str {
    let comment = match file.rsplit_once('.') {
        Some((_, "md")) => return text,
        Some((_, "rs")) => "//",
        _ => "#",
    };
    text.find(comment).map_or("", |at| &text[at..])
}

/// The words that a name is put together from, in lower case.
fn parts(name: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut was_lower = false;
    for c in name.chars() {
        if c == '_' || (c.is_uppercase() && was_lower) {
            parts.push(String::new());
        }
        was_lower = c.is_lowercase();
        let last = parts.last_mut().expect("it is never empty");
        last.extend(c.to_lowercase().filter(|c| *c != '_'));
    }
    parts
}

fn for_each_line(mut visit: impl FnMut(&str, usize, &str)) {
    for file in files() {
        let is_ours = [".rs", ".md", ".toml"].iter().any(|end| file.ends_with(end));
        if !is_ours || TELL_OF_THEM.contains(&file.as_str()) {
            continue;
        }
        for (at, line) in read(&file).unwrap_or_default().lines().enumerate() {
            visit(&file, at + 1, line);
        }
    }
}

#[test]
fn a_name_is_taken_apart_at_its_humps() {
    assert_eq!(parts("KNOCK_AgainTwo"), ["knock", "again", "two"]);
    assert_eq!(parts("watermark"), ["watermark"]);
    assert_eq!(prose("a/b.rs", "let he = 1; // the user"), "// the user");
}
