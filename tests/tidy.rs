//! The shape of the tree: what a reader was promised, and what no compiler checks.
//!
//! Each module holds one kind of promise. A failure names the rule, the places that break it, and
//! the cure.

mod tidy {
    /// Findings, and their report.
    mod finding;
    /// The files and crates of the workspace.
    mod tree;

    /// Dependencies between crates, and the owner of each outside library.
    mod arrows;
    /// Files of a crate that need each other.
    mod circles;
    /// Every outside crate is used, and is explained.
    mod dependencies;
    /// Headers, sizes, imports and the names of tests.
    mod shape;
    /// Text that no file may contain.
    mod text;
    /// Retired words, each with its cure.
    mod words;

    /// README and docs name only what exists.
    mod docs;
    /// The descriptions of the public protocol say what the code says.
    mod protocol;
}
