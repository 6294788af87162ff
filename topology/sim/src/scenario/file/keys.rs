//! The keys of a scenario file. The reader refuses all others.

/// Without `converge_s`.
pub(super) const CONVERGE_MS: u64 = 30_000;
/// Without `tick_ms`.
pub(super) const TICK_MS: u64 = 2;

/// One key of a section.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Key {
    /// The section: empty for the top of the file, `load`, or `fault`.
    pub section: &'static str,
    pub key: &'static str,
    pub example: &'static str,
    /// Required: always, or, in a fault, for each kind that has it.
    pub is_required: bool,
    /// Minimum and maximum of a number.
    pub range: Option<(f64, f64)>,
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

/// All keys, in the usual order.
pub const KEYS: &[Key] = &[
    text("", "name", r#""region-loss""#, "its name"),
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
        "how owners of every zone verify their ownership; default: as the world says",
    )
    .optional(),
    number("", "seconds", "40", (1.0, 3_600.0), "length of the load"),
    number(
        "",
        "quiet_s",
        "10",
        (0.0, 3_600.0),
        "time between the last fault and the end of the load",
    )
    .optional(),
    number("", "converge_s", "30", (1.0, 3_600.0), "time to converge after the load").optional(),
    number("", "tick_ms", "2", (1.0, 100.0), "steps of virtual time").optional(),
    number("load", "clients", "3", (1.0, 200.0), "clients in each region").optional(),
    number("load", "messages_per_s", "12", (0.1, 2_000.0), "messages of all clients together")
        .optional(),
    number(
        "load",
        "groups",
        "6",
        (0.0, 200.0),
        "groups of all users, their homes spread over the regions",
    )
    .optional(),
    number("load", "directs", "3", (0.0, 200.0), "conversations of two").optional(),
    number("load", "edits_per_s", "0.5", (0.0, 100.0), "members added to groups and removed")
        .optional(),
    number("load", "reads_per_s", "0.5", (0.0, 100.0), "pages of history read").optional(),
    number("load", "moves_per_s", "1.5", (0.0, 100.0), "moves of multi-region conversations")
        .optional(),
    number(
        "load",
        "region_moves_per_s",
        "1.5",
        (0.0, 100.0),
        "moves of single-region conversations",
    )
    .optional(),
    number("load", "resend", "0.1", (0.0, 1.0), "share of messages sent again after their ack")
        .optional(),
    number("load", "body_bytes", "80", (1.0, 8_192.0), "approximate length of a message")
        .optional(),
    number("fault", "at", "10", (0.0, 3_600.0), "seconds after the load began"),
    number("fault", "for", "15", (0.001, 3_600.0), "duration in seconds").optional(),
    text("fault", "kind", r#""lose-region""#, "what goes wrong"),
    text("fault", "node", r#""eu-west/core/1""#, "which node"),
    text("fault", "region", r#""eu-west""#, "which region"),
    text("fault", "between", r#"["eu-west", "us-east"]"#, "two regions, by name"),
    text(
        "fault",
        "ways",
        r#""both""#,
        "\"both\", or \"one\": packets from the first do not reach the second",
    )
    .optional(),
    text(
        "fault",
        "what",
        r#""all""#,
        "\"all\" traffic, the \"mesh\" and its clients, or the \"store\"",
    )
    .optional(),
    number("fault", "share", "0.2", (0.0, 1.0), "share, 0 to 1"),
    number("fault", "rate", "1.1", (0.5, 2.0), "the clock's seconds per true second").optional(),
    number(
        "fault",
        "jump_ms",
        "-5000",
        (-86_400_000.0, 86_400_000.0),
        "how far the wall clock jumps",
    )
    .optional(),
    number("fault", "extra_ms", "200", (1.0, 60_000.0), "one way, added to the world's delay"),
    number("fault", "sync_ms", "300", (1.0, 60_000.0), "duration of each sync"),
    number("fault", "by_ms", "3000", (1.0, 600_000.0), "delay of late writes"),
    number(
        "fault",
        "every_ms",
        "800",
        (10.0, 3_600_000.0),
        "interval at which each client reconnects",
    ),
    text("fault", "power_loss", "true", "unsynced data is lost as well").optional(),
    text(
        "fault",
        "older",
        "true",
        "until they are restarted, all nodes lack every feature, as an older program does",
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

/// The entry of a key.
pub(super) fn find(section: &str, name: &str) -> &'static Key {
    let known = KEYS.iter().find(|key| (key.section, key.key) == (section, name));
    known.expect("only keys of the table are read")
}
