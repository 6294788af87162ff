//! What a scenario file may say. The reader refuses what is not here.

/// Without `converge_s`.
pub(super) const CONVERGE_MS: u64 = 30_000;
/// Without `tick_ms`.
pub(super) const TICK_MS: u64 = 2;

/// One key of a section.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Key {
    /// The section: empty for the top of the file, `load`, or `fault`.
    pub section: &'static str,
    /// Its name.
    pub key: &'static str,
    /// How it may look.
    pub example: &'static str,
    /// It must be there: always, or, in a fault, wherever the kind has it.
    pub is_required: bool,
    /// Least and most, of a number.
    pub range: Option<(f64, f64)>,
    /// What it means.
    pub doc: &'static str,
}

const fn text(
    section: &'static str,
    key: &'static str,
    example: &'static str,
    doc: &'static str,
) -> Key {
    Key { section, key, example, is_required: true, range: None, doc }
}

const fn number(
    section: &'static str,
    key: &'static str,
    example: &'static str,
    range: (f64, f64),
    doc: &'static str,
) -> Key {
    Key { section, key, example, is_required: true, range: Some(range), doc }
}

impl Key {
    const fn optional(mut self) -> Self {
        self.is_required = false;
        self
    }
}

/// Every key there is, in the order in which people write them.
pub const KEYS: &[Key] = &[
    text("", "name", r#""region-loss""#, "what people call it"),
    text("", "about", r#""A region dies under load.""#, "one or two sentences on what it shows")
        .optional(),
    text(
        "",
        "world",
        r#""three-regions""#,
        "a shipped world, or a world file relative to this file",
    ),
    text(
        "",
        "fence",
        r#""lease""#,
        "how owners of every zone make sure that they still are, instead of what the world says",
    )
    .optional(),
    number("", "seconds", "40", (1.0, 3_600.0), "how long people talk"),
    number(
        "",
        "quiet_s",
        "10",
        (0.0, 3_600.0),
        "how long before the end of the load all faults are over",
    )
    .optional(),
    number(
        "",
        "converge_s",
        "30",
        (1.0, 3_600.0),
        "how long everything may take to converge afterwards",
    )
    .optional(),
    number("", "tick_ms", "2", (1.0, 100.0), "steps of virtual time").optional(),
    number("load", "clients", "3", (1.0, 200.0), "people in each region").optional(),
    number("load", "messages_per_s", "12", (0.1, 2_000.0), "messages of all people together")
        .optional(),
    number(
        "load",
        "groups",
        "6",
        (0.0, 200.0),
        "groups of everyone, their homes spread over the regions",
    )
    .optional(),
    number("load", "directs", "3", (0.0, 200.0), "conversations of two").optional(),
    number("load", "edits_per_s", "0.5", (0.0, 100.0), "members taken into groups and out of them")
        .optional(),
    number("load", "reads_per_s", "0.5", (0.0, 100.0), "pages of history read").optional(),
    number(
        "load",
        "moves_per_s",
        "1.5",
        (0.0, 100.0),
        "conversations of class `multi-region` given another home",
    )
    .optional(),
    number("load", "region_moves_per_s", "1.5", (0.0, 100.0), "and those of class `region`")
        .optional(),
    number("load", "resend", "0.1", (0.0, 1.0), "share of messages sent again after their ack")
        .optional(),
    number("load", "body_bytes", "80", (1.0, 8_192.0), "length of a message, about").optional(),
    number("fault", "at", "10", (0.0, 3_600.0), "seconds after the load began"),
    number("fault", "for", "15", (0.001, 3_600.0), "how many seconds it lasts").optional(),
    text("fault", "kind", r#""lose-region""#, "what goes wrong"),
    text("fault", "node", r#""eu-west/core/1""#, "which node"),
    text("fault", "region", r#""eu-west""#, "which region"),
    text("fault", "between", r#"["eu-west", "us-east"]"#, "two regions, by name"),
    text(
        "fault",
        "ways",
        r#""both""#,
        "\"both\", or \"one\": what the first sends does not reach the second",
    )
    .optional(),
    text(
        "fault",
        "what",
        r#""all""#,
        "\"all\" traffic, the \"mesh\" and its clients, or the \"store\"",
    )
    .optional(),
    number("fault", "share", "0.2", (0.0, 1.0), "how much of it, 0 to 1"),
    number("fault", "rate", "1.1", (0.5, 2.0), "the clock's seconds in one true second").optional(),
    number(
        "fault",
        "jump_ms",
        "-5000",
        (-86_400_000.0, 86_400_000.0),
        "how far the wall clock jumps",
    )
    .optional(),
    number("fault", "extra_ms", "200", (1.0, 60_000.0), "one way, on top of what the world says"),
    number("fault", "sync_ms", "300", (1.0, 60_000.0), "how long each sync takes"),
    number("fault", "by_ms", "3000", (1.0, 600_000.0), "how late they arrive"),
    number(
        "fault",
        "every_ms",
        "800",
        (10.0, 3_600_000.0),
        "how often each client leaves and comes back",
    ),
    text("fault", "power_loss", "true", "what was not synced is lost as well").optional(),
    text(
        "fault",
        "older",
        "true",
        "until they are restarted, all nodes speak the previous minor version",
    )
    .optional(),
];

/// The kinds of fault and what each has beside `at`, `for` and `kind`.
pub const KINDS: &[(&str, &[&str])] = &[
    ("kill", &["node"]),
    ("power-loss", &["node"]),
    ("pause", &["node"]),
    ("clock", &["node", "rate", "jump_ms"]),
    ("drain", &["node"]),
    ("lose-region", &["region"]),
    ("fail-over", &["region"]),
    ("drain-region", &["region"]),
    ("cut", &["between", "ways", "what"]),
    ("loss", &["between", "share"]),
    ("delay", &["between", "extra_ms"]),
    ("replica-down", &["region", "power_loss"]),
    ("slow-disk", &["region", "sync_ms"]),
    ("late-writes", &["region", "share", "by_ms"]),
    ("diverge", &["region", "share"]),
    ("flap", &["region", "every_ms"]),
    ("rolling-restart", &["older"]),
];

/// The names of a section's keys.
pub(super) fn of(section: &str) -> impl Iterator<Item = &'static str> {
    KEYS.iter().filter(move |key| key.section == section).map(|key| key.key)
}

/// What the table says of a key.
pub(super) fn find(section: &str, name: &str) -> &'static Key {
    let known = KEYS.iter().find(|key| (key.section, key.key) == (section, name));
    known.expect("only keys of the table are read")
}
