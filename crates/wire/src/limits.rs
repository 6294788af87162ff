//! The limits of every wire, in one place, tested from both sides.

/// Largest WebSocket text frame from a client, bytes. Over it the session is closed with 1009.
pub const FRAME_BYTES: usize = 64 * 1024;
/// Largest message body, bytes of UTF-8; the smallest is 1.
pub const BODY_BYTES: usize = 16 * 1024;
/// Largest `meta` of a message, bytes of JSON.
pub const META_BYTES: usize = 4 * 1024;
/// Most user ids in `mentions`.
pub const MENTIONS: usize = 64;
/// Longest user, tenant or device id, bytes; the shortest is 1.
pub const NAME_BYTES: usize = 128;
/// Longest `client_msg_id`, characters of `A-Za-z0-9_-`; the shortest is 1.
pub const CLIENT_MSG_ID_CHARS: usize = 64;
/// Longest `id` of a client frame, characters.
pub const REQUEST_ID_CHARS: usize = 64;
/// Longest name of a group, bytes of UTF-8; the shortest is 1.
pub const GROUP_NAME_BYTES: usize = 256;
/// Most members of one group.
pub const GROUP_MEMBERS: usize = 10_000;
/// Most users named in one change of members.
pub const MEMBERS_PER_CHANGE: usize = 1_000;
/// Members shown at once in the view of a group; the rest is paged.
pub const MEMBERS_PER_PAGE: usize = 1_000;
/// Most conversations in one `sync`.
pub const SYNC_CONVERSATIONS: usize = 1_000;
/// Largest page of history, messages; and the page when none is asked for.
pub const HISTORY_PAGE_MAX: u16 = 200;
/// See [`HISTORY_PAGE_MAX`].
pub const HISTORY_PAGE_DEFAULT: u16 = 50;
/// Largest page of the inbox, conversations; and the page when none is asked for.
pub const INBOX_PAGE_MAX: u16 = 200;
/// See [`INBOX_PAGE_MAX`].
pub const INBOX_PAGE_DEFAULT: u16 = 50;
/// Largest HTTP request body, bytes.
pub const HTTP_BODY_BYTES: usize = 256 * 1024;
/// Largest frame between two nodes, bytes.
pub const MESH_FRAME_BYTES: usize = 1024 * 1024;
/// A frame of the shard log is closed when it holds this many bytes; one entry always fits.
pub const LOG_FRAME_BYTES: usize = 64 * 1024;
/// How long a `client_msg_id` is remembered, milliseconds: 30 days.
pub const DEDUPE_MS: u64 = 30 * 24 * 60 * 60 * 1000;
/// Slots of the shard log in one partition of the store.
pub const SLOTS_PER_CHUNK: u64 = 256;
/// Messages of a conversation in one partition of the store.
pub const SEQS_PER_BUCKET: u64 = 2_048;
