//! One table of the file: its values by key, each checked against the table of keys. What is
//! missing or malformed is reported and left out.

use toml::de::{DeTable, DeValue};
use topology::mistakes::{self, At, Found, line_of, meant};

use super::keys;

pub(super) struct Section<'a, 'f> {
    pub(super) text: &'a str,
    /// As in the table of keys.
    pub(super) name: &'static str,
    /// Its kind's name.
    pub(super) heading: String,
    pub(super) line: usize,
    pub(super) table: &'a DeTable<'a>,
    pub(super) found: &'f mut Found,
}

impl<'a> Section<'a, '_> {
    /// Reports every key that is not one of these.
    pub(super) fn refuse_unknown(&mut self, known: &[&str]) {
        for key in self.table.keys() {
            let name = key.get_ref().as_ref();
            if !known.contains(&name) {
                let cure = meant(name, known.iter().copied());
                let cure =
                    cure.unwrap_or_else(|| format!("the keys here are {}", known.join(", ")));
                let problem = format!("{} has no \"{name}\"", self.heading);
                self.found.add(line_of(self.text, key.span().start), problem, cure);
            }
        }
    }

    pub(super) fn text(&mut self, key: &'static str) -> Option<At<String>> {
        match self.value(key)? {
            (DeValue::String(text), line) => Some(At { value: text.to_string(), line }),
            (_, line) => self.wrong(key, line, "a text in quotes"),
        }
    }

    /// False when it is left out.
    pub(super) fn flag(&mut self, key: &'static str) -> Option<bool> {
        match self.value(key) {
            None => Some(false),
            Some((DeValue::Boolean(flag), _)) => Some(*flag),
            Some((_, line)) => self.wrong(key, line, "true or false"),
        }
    }

    pub(super) fn names(&mut self, key: &'static str) -> Option<Vec<At<String>>> {
        let (value, line) = self.value(key)?;
        match mistakes::names(self.text, value, line) {
            Ok(names) => Some(names),
            Err((line, expected)) => self.wrong(key, line, expected),
        }
    }

    /// A number within its range.
    pub(super) fn number(&mut self, key: &'static str) -> Option<At<f64>> {
        let (value, line) = self.value(key)?;
        match mistakes::number(value) {
            Some(value) => self.in_range(key, At { value, line }),
            None => self.wrong(key, line, "a number"),
        }
    }

    /// Seconds, fractions allowed, to the nearest millisecond.
    pub(super) fn millis(&mut self, key: &'static str) -> Option<At<u64>> {
        let At { value, line } = self.number(key)?;
        Some(At { value: (value * 1_000.0).round() as u64, line })
    }

    /// A whole number that is not negative.
    pub(super) fn whole(&mut self, key: &'static str) -> Option<At<u64>> {
        let At { value, line } = self.signed(key)?;
        Some(At { value: value.unsigned_abs(), line })
    }

    /// A whole number of a range that ends below 65536.
    pub(super) fn small(&mut self, key: &'static str) -> Option<u16> {
        u16::try_from(self.whole(key)?.value).ok()
    }

    /// A whole number within its range.
    pub(super) fn signed(&mut self, key: &'static str) -> Option<At<i64>> {
        let (value, line) = self.value(key)?;
        let number =
            value.as_integer().and_then(|n| i64::from_str_radix(n.as_str(), n.radix()).ok());
        let Some(whole) = number else { return self.wrong(key, line, "a whole number") };
        self.in_range(key, At { value: whole as f64, line })?;
        Some(At { value: whole, line })
    }

    fn in_range(&mut self, key: &'static str, at: At<f64>) -> Option<At<f64>> {
        let (least, most) = keys::find(self.name, key).range.unwrap_or((f64::MIN, f64::MAX));
        if (least..=most).contains(&at.value) {
            return Some(at);
        }
        let cure =
            format!("write a number from {least} to {most}: {}", keys::find(self.name, key).doc);
        self.found.add(at.line, format!("{key} = {}", at.value), cure);
        None
    }

    /// The value of a key; reports a required one that is not there.
    fn value(&mut self, key: &'static str) -> Option<(&'a DeValue<'a>, usize)> {
        let Some(value) = self.table.get(key) else {
            if keys::find(self.name, key).is_required {
                self.found.add(
                    self.line,
                    format!("{} lacks \"{key}\"", self.heading),
                    self.cure(key),
                );
            }
            return None;
        };
        Some((value.get_ref(), line_of(self.text, value.span().start)))
    }

    fn wrong<T>(&mut self, key: &'static str, line: usize, expected: &str) -> Option<T> {
        let cure = self.cure(key);
        self.found.add(line, format!("\"{key}\" is not {expected}"), cure);
        None
    }

    fn cure(&self, key: &'static str) -> String {
        let known = keys::find(self.name, key);
        format!("write for example {key} = {}: {}", known.example, known.doc)
    }
}
