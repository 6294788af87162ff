//! The shape of the tree: what a reader was promised, and what no compiler checks.
//!
//! Each module holds one kind of promise. A failure names the rule, the places that break it, and the cure.

mod tidy {
    /// What is found, and how it is told.
    mod finding;
    /// The files and crates of the workspace.
    mod tree;

    /// Which crate may know which, and who owns which outside library.
    mod arrows;
    /// Which files of a crate need each other.
    mod circles;
    /// Every outside crate is used, and is explained.
    mod dependencies;
    /// Headers, sizes, imports and the names of tests.
    mod shape;
    /// What may not stand in any file.
    mod text;

    /// README and docs name only what exists.
    mod docs;
    /// The descriptions of the public protocol say what the code says.
    mod protocol;
}
