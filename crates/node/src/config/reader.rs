//! From TOML to declared sections. What is missing or malformed is reported and left out.

use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeTable, DeValue, ValueDeserializer};
use topology::mistakes::{self, Found, line_of, meant};

use super::{Field, Section};

/// A file while it is read.
pub struct File<'f> {
    text: &'f str,
    root: DeTable<'f>,
    /// Sections and top fields that somebody asked for.
    known: Vec<&'static str>,
    found: &'f mut Found,
}

impl<'f> File<'f> {
    /// None when the text is not TOML.
    pub(super) fn open(text: &'f str, found: &'f mut Found) -> Option<Self> {
        let root = mistakes::root(text, found)?.into_inner();
        Some(Self { text, root, known: Vec::new(), found })
    }

    /// What stands above the first section.
    pub fn top<T: Section>(&mut self) -> Option<T> {
        self.known.extend(T::FIELDS.iter().map(|field| field.key));
        let table = DeTable::clone(&self.root);
        T::read(&mut Table {
            text: self.text,
            name: "",
            line: 1,
            table,
            fields: T::FIELDS,
            found: self.found,
        })
    }

    /// The section `[name]`. One that is not there is empty.
    pub fn section<T: Section>(&mut self, name: &'static str) -> Option<T> {
        self.known.push(name);
        match self.root.remove(name) {
            Some(value) => self.table(name, "[", value),
            None => self.table(name, "[", Spanned::new(0..0, DeValue::Table(DeTable::new()))),
        }
    }

    /// All sections `[[name]]`, each with its line, in the order of the file.
    pub fn sections<T: Section>(&mut self, name: &'static str) -> Vec<(usize, T)> {
        self.known.push(name);
        let values: Vec<_> = match self.root.remove(name).map(Spanned::into_inner) {
            Some(DeValue::Array(values)) => values.into_iter().collect(),
            Some(_) => {
                let cure = format!("write a line [[{name}]] before the fields of each");
                self.found.add(1, format!("\"{name}\" is not a list of sections"), cure);
                Vec::new()
            }
            None => Vec::new(),
        };
        let read = |value: Spanned<DeValue<'f>>| {
            let line = line_of(self.text, value.span().start);
            Some((line, self.table(name, "[[", value)?))
        };
        values.into_iter().filter_map(read).collect()
    }

    /// A mistake that only the whole shows.
    pub fn refuse(&mut self, line: usize, problem: impl Into<String>, cure: impl Into<String>) {
        self.found.add(line, problem, cure);
    }

    fn table<T: Section>(
        &mut self,
        name: &'static str,
        brackets: &str,
        value: Spanned<DeValue<'f>>,
    ) -> Option<T> {
        let line = line_of(self.text, value.span().start);
        let DeValue::Table(table) = value.into_inner() else {
            let closing = "]".repeat(brackets.len());
            let cure = format!("write a line {brackets}{name}{closing} before its fields");
            self.found.add(line, format!("\"{name}\" is not a section"), cure);
            return None;
        };
        let mut table =
            Table { text: self.text, name, line, table, fields: T::FIELDS, found: self.found };
        table.refuse_unknown();
        T::read(&mut table)
    }

    /// Whatever nobody asked for.
    pub(super) fn refuse_rest(&mut self) {
        for key in self.root.keys().filter(|key| !self.known.contains(&key.get_ref().as_ref())) {
            let line = line_of(self.text, key.span().start);
            let cure = meant(key.get_ref(), self.known.iter().copied());
            let cure = cure.unwrap_or_else(|| format!("known here are {}", self.known.join(", ")));
            self.found.add(line, format!("nothing is called \"{}\" here", key.get_ref()), cure);
        }
    }
}

/// A section while it is read.
pub struct Table<'f, 'r> {
    text: &'f str,
    name: &'static str,
    line: usize,
    table: DeTable<'f>,
    fields: &'static [Field],
    found: &'r mut Found,
}

impl Table<'_, '_> {
    /// The value of a field that must be there.
    pub fn must<T: DeserializeOwned>(&mut self, key: &'static str) -> Option<T> {
        if !self.table.contains_key(key) {
            let place = if self.name.is_empty() {
                "the file".to_owned()
            } else {
                format!("[{}]", self.name)
            };
            self.found.add(self.line, format!("{place} lacks \"{key}\""), self.field(key).cure());
            return None;
        }
        self.value(key)?
    }

    /// The value of a field that need not be there: `T` is an `Option`.
    pub fn may<T: DeserializeOwned + Default>(&mut self, key: &'static str) -> Option<T> {
        self.value(key)?.or_else(|| Some(T::default()))
    }

    /// The value of a field, or its default.
    pub fn or<T: DeserializeOwned>(&mut self, key: &'static str) -> Option<T> {
        self.value(key)?.or_else(|| {
            let default = ValueDeserializer::parse(self.field(key).toml);
            Some(
                default
                    .and_then(T::deserialize)
                    .expect("a default is a value of its field: the example's test reads it"),
            )
        })
    }

    /// The outer none: it is malformed, and that is reported. The inner none: it is not there.
    #[expect(clippy::option_option, reason = "both are answers, and neither outlives the caller")]
    fn value<T: DeserializeOwned>(&mut self, key: &'static str) -> Option<Option<T>> {
        let Some(value) = self.table.remove(key) else { return Some(None) };
        let line = line_of(self.text, value.span().start);
        match T::deserialize(ValueDeserializer::from(value)) {
            Ok(value) => Some(Some(value)),
            Err(error) => {
                let problem = format!("\"{key}\": {}", error.message());
                self.found.add(line, problem, self.field(key).cure());
                None
            }
        }
    }

    fn field(&self, key: &str) -> &'static Field {
        self.fields
            .iter()
            .find(|field| field.key == key)
            .expect("a section asks only for fields that it declares")
    }

    fn refuse_unknown(&mut self) {
        let known: Vec<&str> = self.fields.iter().map(|field| field.key).collect();
        for key in self.table.keys().filter(|key| !known.contains(&key.get_ref().as_ref())) {
            let line = line_of(self.text, key.span().start);
            let cure = meant(key.get_ref(), known.iter().copied());
            let cure = cure.unwrap_or_else(|| format!("the fields here are {}", known.join(", ")));
            self.found.add(
                line,
                format!("[{}] has no field \"{}\"", self.name, key.get_ref()),
                cure,
            );
        }
    }
}
