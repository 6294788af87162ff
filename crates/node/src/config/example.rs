//! The example file: every field with its meaning, and what holds when it is left out.

use std::fmt::Write as _;

use super::{Field, Presence, Section};

const LEGEND: &str =
    "A line that starts with # and a key shows what holds when it is left out, or how it may look.";

/// A section as the example shows it.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    header: &'static str,
    about: &'static str,
    fields: &'static [Field],
}

impl Shape {
    /// Under this header, such as `[mesh]`; none for what stands above the first section.
    #[must_use]
    pub const fn of<T: Section>(header: &'static str) -> Self {
        Self { header, about: T::ABOUT, fields: T::FIELDS }
    }
}

/// The file, with this text at its head.
#[must_use]
pub fn example(head: &str, shapes: &[Shape]) -> String {
    let mut text = String::new();
    comment(&mut text, head);
    text.push_str("#\n");
    comment(&mut text, LEGEND);
    for shape in shapes {
        text.push('\n');
        if !shape.header.is_empty() {
            comment(&mut text, shape.about);
            _ = writeln!(text, "{}", shape.header);
        }
        for (n, field) in shape.fields.iter().enumerate() {
            if n > 0 {
                text.push('\n');
            }
            comment(&mut text, field.doc);
            let off = if field.presence == Presence::Must { "" } else { "#" };
            _ = writeln!(text, "{off}{} = {}", field.key, field.toml);
        }
    }
    text
}

fn comment(text: &mut String, lines: &str) {
    for line in lines.lines() {
        _ = writeln!(text, "# {}", line.trim());
    }
}
