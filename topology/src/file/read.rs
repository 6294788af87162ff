//! From TOML to the fields of each section. Missing or malformed fields are reported and left out.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::fields;
use crate::mistakes::{self, At, Found, line_of, meant};

pub(super) struct File {
    pub(super) name: Option<At<String>>,
    pub(super) regions: Vec<Region>,
    pub(super) zones: Vec<Zone>,
    pub(super) tenants: Vec<Tenant>,
    pub(super) links: Vec<Link>,
}

pub(super) struct Region {
    pub(super) line: usize,
    pub(super) id: Option<At<u16>>,
    pub(super) name: Option<At<String>>,
    pub(super) lat: Option<At<f64>>,
    pub(super) lon: Option<At<f64>>,
    pub(super) cores: Option<At<u16>>,
    pub(super) edges: Option<At<u16>>,
    pub(super) successors: Option<Vec<At<String>>>,
}

pub(super) struct Zone {
    pub(super) line: usize,
    pub(super) id: Option<At<u16>>,
    pub(super) name: Option<At<String>>,
    pub(super) regions: Option<Vec<At<String>>>,
    pub(super) transit: Option<At<String>>,
    pub(super) shards: Option<At<u16>>,
    pub(super) fence: Option<At<String>>,
    pub(super) max_rpo_s: Option<At<u16>>,
    pub(super) founding_regions: Option<Vec<At<String>>>,
    pub(super) founding_shards: Option<At<u16>>,
}

pub(super) struct Tenant {
    pub(super) line: usize,
    pub(super) name: Option<At<String>>,
    pub(super) zone: Option<At<String>>,
    pub(super) durability: Option<At<String>>,
    pub(super) home: Option<At<String>>,
    pub(super) issuer: Option<At<String>>,
    pub(super) jwks_file: Option<At<String>>,
    pub(super) jwks: Option<At<String>>,
    pub(super) limits: TenantLimits,
}

pub(super) struct TenantLimits {
    pub(super) sends_per_second: Option<At<u16>>,
    pub(super) sends_burst: Option<At<u16>>,
    pub(super) tenant_sends_per_second: Option<At<u16>>,
    pub(super) conversations_per_minute: Option<At<u16>>,
    pub(super) conversations_burst: Option<At<u16>>,
    pub(super) members_added_per_hour: Option<At<u16>>,
    pub(super) requests_per_minute: Option<At<u16>>,
    pub(super) frames_per_second: Option<At<u16>>,
    pub(super) sessions_per_device_type: Option<At<u16>>,
}

pub(super) struct Link {
    pub(super) line: usize,
    pub(super) between: Option<Vec<At<String>>>,
    pub(super) delay_ms: Option<At<f64>>,
    pub(super) loss: Option<At<f64>>,
}

/// None when the text is not TOML.
pub(super) fn file(text: &str, found: &mut Found) -> Option<File> {
    let root = mistakes::root(text, found)?;
    let root = root.get_ref();
    for key in root.keys() {
        let known = ["name", "region", "zone", "tenant", "link"];
        if !known.contains(&key.get_ref().as_ref()) {
            let line = line_of(text, key.span().start);
            unknown(
                &format!("the file has no section \"{}\"", key.get_ref()),
                key.get_ref(),
                &known,
                line,
                found,
            );
        }
    }
    let mut top = Section { text, kind: "", line: 1, table: root, found };
    let name = top.text("name");
    Some(File {
        name,
        regions: sections(text, root, "region", found, region),
        zones: sections(text, root, "zone", found, zone),
        tenants: sections(text, root, "tenant", found, tenant),
        links: sections(text, root, "link", found, link),
    })
}

fn region(s: &mut Section<'_, '_>) -> Region {
    Region {
        line: s.line,
        id: s.whole("id"),
        name: s.text("name"),
        lat: s.number("lat"),
        lon: s.number("lon"),
        cores: s.whole("cores"),
        edges: s.whole("edges"),
        successors: s.names("successors"),
    }
}

fn zone(s: &mut Section<'_, '_>) -> Zone {
    Zone {
        line: s.line,
        id: s.whole("id"),
        name: s.text("name"),
        regions: s.names("regions"),
        transit: s.text("transit"),
        shards: s.whole("shards"),
        fence: s.text("fence"),
        max_rpo_s: s.whole("max_rpo_s"),
        founding_regions: s.names("founding_regions"),
        founding_shards: s.whole("founding_shards"),
    }
}

fn tenant(s: &mut Section<'_, '_>) -> Tenant {
    Tenant {
        line: s.line,
        name: s.text("name"),
        zone: s.text("zone"),
        durability: s.text("durability"),
        home: s.text("home"),
        issuer: s.text("issuer"),
        jwks_file: s.text("jwks_file"),
        jwks: s.text("jwks"),
        limits: TenantLimits {
            sends_per_second: s.whole("sends_per_second"),
            sends_burst: s.whole("sends_burst"),
            tenant_sends_per_second: s.whole("tenant_sends_per_second"),
            conversations_per_minute: s.whole("conversations_per_minute"),
            conversations_burst: s.whole("conversations_burst"),
            members_added_per_hour: s.whole("members_added_per_hour"),
            requests_per_minute: s.whole("requests_per_minute"),
            frames_per_second: s.whole("frames_per_second"),
            sessions_per_device_type: s.whole("sessions_per_device_type"),
        },
    }
}

fn link(s: &mut Section<'_, '_>) -> Link {
    Link {
        line: s.line,
        between: s.names("between"),
        delay_ms: s.number("delay_ms"),
        loss: s.number("loss"),
    }
}

/// One table of an array of tables.
struct Section<'a, 'f> {
    text: &'a str,
    kind: &'static str,
    line: usize,
    table: &'a DeTable<'a>,
    found: &'f mut Found,
}

fn sections<'a, T>(
    text: &'a str,
    root: &'a DeTable<'a>,
    kind: &'static str,
    found: &mut Found,
    read: impl Fn(&mut Section<'a, '_>) -> T,
) -> Vec<T> {
    let Some(value) = root.get(kind) else { return Vec::new() };
    let tables: Vec<&Spanned<DeValue<'a>>> = match value.get_ref() {
        DeValue::Array(tables) => tables.iter().collect(),
        _ => vec![value],
    };
    let mut read_all = Vec::new();
    for value in tables {
        let line = line_of(text, value.span().start);
        let DeValue::Table(table) = value.get_ref() else {
            found.add(
                line,
                format!("\"{kind}\" is not a table"),
                format!("write a line [[{kind}]] before its fields"),
            );
            continue;
        };
        let mut section = Section { text, kind, line, table, found };
        section.refuse_unknown();
        read_all.push(read(&mut section));
    }
    read_all
}

impl<'a> Section<'a, '_> {
    fn refuse_unknown(&mut self) {
        let known: Vec<&str> = fields::of(self.kind).map(|field| field.key).collect();
        for (key, _) in self.table {
            if !known.contains(&key.get_ref().as_ref()) {
                let line = line_of(self.text, key.span().start);
                let problem = format!("[[{}]] has no field \"{}\"", self.kind, key.get_ref());
                unknown(&problem, key.get_ref(), &known, line, self.found);
            }
        }
    }

    /// The value of a field; reports a required one that is not there.
    fn value(&mut self, key: &'static str) -> Option<(&'a DeValue<'a>, usize)> {
        let field = fields::of(self.kind)
            .find(|field| field.key == key)
            .expect("only fields of the table are read");
        let Some(value) = self.table.get(key) else {
            if field.default.is_none() && !field.optional {
                let section = if self.kind.is_empty() {
                    "the file".into()
                } else {
                    format!("[[{}]]", self.kind)
                };
                self.found.add(self.line, format!("{section} lacks \"{key}\""), self.cure(key));
            }
            return None;
        };
        Some((value.get_ref(), line_of(self.text, value.span().start)))
    }

    fn cure(&self, key: &str) -> String {
        let field = fields::of(self.kind)
            .find(|field| field.key == key)
            .expect("only fields of the table are read");
        format!("write for example {key} = {}: {}", field.example, field.doc)
    }

    fn wrong_type<T>(&mut self, key: &str, line: usize, expected: &str) -> Option<T> {
        let cure = self.cure(key);
        self.found.add(line, format!("\"{key}\" is not {expected}"), cure);
        None
    }

    fn text(&mut self, key: &'static str) -> Option<At<String>> {
        match self.value(key)? {
            (DeValue::String(text), line) => Some(At { value: text.to_string(), line }),
            (_, line) => self.wrong_type(key, line, "a text in quotes"),
        }
    }

    fn whole(&mut self, key: &'static str) -> Option<At<u16>> {
        let (value, line) = self.value(key)?;
        let number =
            value.as_integer().and_then(|n| u16::from_str_radix(n.as_str(), n.radix()).ok());
        match number {
            Some(value) => Some(At { value, line }),
            None => self.wrong_type(key, line, "a whole number from 0 to 65535"),
        }
    }

    fn number(&mut self, key: &'static str) -> Option<At<f64>> {
        let (value, line) = self.value(key)?;
        match mistakes::number(value) {
            Some(value) => Some(At { value, line }),
            None => self.wrong_type(key, line, "a number"),
        }
    }

    fn names(&mut self, key: &'static str) -> Option<Vec<At<String>>> {
        let (value, line) = self.value(key)?;
        match mistakes::names(self.text, value, line) {
            Ok(names) => Some(names),
            Err((line, expected)) => self.wrong_type(key, line, expected),
        }
    }
}

fn unknown(problem: &str, key: &str, known: &[&str], line: usize, found: &mut Found) {
    let cure = meant(key, known.iter().copied());
    found.add(
        line,
        problem,
        cure.unwrap_or_else(|| format!("the fields here are {}", known.join(", "))),
    );
}
