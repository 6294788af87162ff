//! What must hold over everything that clients saw.
