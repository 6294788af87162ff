//! The fields of a world file. The reader refuses any other field, and the reference is printed
//! from this list.

/// One field of a section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// The section: empty for the top of the file, `region` for `[[region]]`.
    pub section: &'static str,
    /// Its key.
    pub key: &'static str,
    /// Its form.
    pub example: &'static str,
    /// The default; none: the field is required, unless `optional`.
    pub default: Option<&'static str>,
    /// It may be left out although it has no default.
    pub optional: bool,
    /// What it means.
    pub doc: &'static str,
}

const fn must(
    section: &'static str,
    key: &'static str,
    example: &'static str,
    doc: &'static str,
) -> Field {
    Field { section, key, example, default: None, optional: false, doc }
}

const fn may(
    section: &'static str,
    key: &'static str,
    example: &'static str,
    doc: &'static str,
) -> Field {
    Field { section, key, example, default: None, optional: true, doc }
}

const fn or(
    section: &'static str,
    key: &'static str,
    default: &'static str,
    doc: &'static str,
) -> Field {
    Field { section, key, example: default, default: Some(default), optional: false, doc }
}

/// Every field there is, in the order of the reference.
pub const FIELDS: &[Field] = &[
    must("", "name", r#""three-regions""#, "What people call the world."),
    must("region", "id", "1", "Its number in ids and certificates, from 1; never reused."),
    must(
        "region",
        "name",
        r#""eu-west""#,
        "What people call it, of a-z, 0-9 and -; also the name of its folder.",
    ),
    must("region", "lat", "53.35", "Degrees north, -90 to 90."),
    must("region", "lon", "-6.26", "Degrees east, -180 to 180."),
    or("region", "cores", "2", "How many cores it starts with, 1 to 64."),
    or("region", "edges", "1", "How many edges it starts with, 1 to 64."),
    or(
        "region",
        "successors",
        "[]",
        "Who serves its multi-region conversations when it is lost, best first; regions left out come after, nearest first.",
    ),
    must("zone", "id", "1", "Its number in ids, from 1; never reused."),
    must("zone", "name", r#""global""#, "What people call it, of a-z, 0-9 and -."),
    must("zone", "regions", r#"["eu-west"]"#, "Where its data may rest. Append, never reorder."),
    or(
        "zone",
        "transit",
        r#""allow""#,
        "Whether edges of other regions may carry its frames: \"allow\" or \"deny\".",
    ),
    or("zone", "shards", "4", "Shards per home region and durability class, 1 to 1024."),
    or(
        "zone",
        "fence",
        r#""read""#,
        "How owners of multi-region conversations make sure that they still are: \"read\" the fence at every commit, which \
         trusts no clock, or hold a timed \"lease\", which saves a round trip and trusts that no clock is far off.",
    ),
    may(
        "zone",
        "max_rpo_s",
        "60",
        "A lost region of the zone is failed over by itself if no more than its last so many seconds may be missing of its \
         single-region shards, 10 to 65535. Left out: only operators do that.",
    ),
    may(
        "zone",
        "founding_regions",
        r#"["eu-west"]"#,
        "The regions it had when it first held data; direct conversations and users' own streams are spread over these \
         for ever. All of `regions` when left out: set it before you append one.",
    ),
    may("zone", "founding_shards", "4", "The `shards` it had when it first held data. As above."),
    must("tenant", "name", r#""demo""#, "Its name in tokens, 1 to 128 bytes."),
    must("tenant", "zone", r#""global""#, "Where its data may rest."),
    must(
        "tenant",
        "durability",
        r#""multi-region""#,
        "The class of its conversations: \"region\" or \"multi-region\".",
    ),
    may(
        "tenant",
        "home",
        r#""eu-west""#,
        "Where its groups are born; where their creator is, when left out.",
    ),
    may(
        "tenant",
        "issuer",
        r#""https://id.example.org""#,
        "The `iss` of its users' tokens; needs jwks_file or jwks.",
    ),
    may(
        "tenant",
        "jwks_file",
        r#""example.jwks.json""#,
        "The issuer's public keys (RFC 7517), relative to this file.",
    ),
    may("tenant", "jwks", r#"'{"keys":[]}'"#, "The issuer's public keys, here."),
    or(
        "tenant",
        "sends_per_second",
        "20",
        "Messages that a user may send in a second. Over it: `rate_limited`, as for all below.",
    ),
    or("tenant", "sends_burst", "60", "Messages that a user may send at once, after a pause."),
    may(
        "tenant",
        "tenant_sends_per_second",
        "5000",
        "Messages that all its users may send in a second at one edge. Left out: no limit.",
    ),
    or(
        "tenant",
        "conversations_per_minute",
        "5",
        "Conversations that a user may open in a minute.",
    ),
    or(
        "tenant",
        "conversations_burst",
        "50",
        "Conversations that a user may open at once, after a pause.",
    ),
    or(
        "tenant",
        "members_added_per_hour",
        "10000",
        "Users that a user may add to conversations in an hour.",
    ),
    or("tenant", "requests_per_minute", "600", "HTTP requests that a user may make in a minute."),
    or(
        "tenant",
        "frames_per_second",
        "50",
        "Frames other than messages that a user may send in a second.",
    ),
    or(
        "tenant",
        "sessions_per_device_type",
        "10",
        "Sessions that a user may have at one edge from devices of one type: the part of `device_id` before the first digit, - or _.",
    ),
    must(
        "link",
        "between",
        r#"["eu-west", "us-east"]"#,
        "The two regions; both directions are alike.",
    ),
    must("link", "delay_ms", "34", "One way, milliseconds, 0 to 10000."),
    or("link", "loss", "0.0", "Share of datagrams lost, from 0 to below 1."),
];

/// The fields of a section.
pub(super) fn of(section: &str) -> impl Iterator<Item = &'static Field> {
    FIELDS.iter().filter(move |field| field.section == section)
}

/// The reference of the format, for people.
#[must_use]
pub fn reference() -> String {
    let mut text = String::new();
    let mut section = "";
    for field in FIELDS {
        if field.section != section {
            section = field.section;
            text.push_str(&format!("\n[[{section}]]\n"));
        }
        let presence = match (field.default, field.optional) {
            (Some(_), _) => "default",
            (None, true) => "optional",
            (None, false) => "required",
        };
        text.push_str(&format!("{} = {}  # {presence}. {}\n", field.key, field.example, field.doc));
    }
    text
}
