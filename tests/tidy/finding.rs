use std::fmt::Write as _;

/// One place that breaks a rule.
pub(super) struct Finding {
    /// A file of the tree, or what else has a name.
    pub(super) at: String,
    /// The line in it, from 1; 0 for the whole.
    pub(super) line: usize,
    pub(super) what: String,
}

impl Finding {
    pub(super) fn new(at: impl Into<String>, what: impl Into<String>) -> Self {
        Self { at: at.into(), line: 0, what: what.into() }
    }

    pub(super) fn on_line(at: impl Into<String>, line: usize, what: impl Into<String>) -> Self {
        Self { at: at.into(), line, what: what.into() }
    }
}

/// Panics with all findings, if there are any, so that one run shows everything that breaks the
/// rule.
#[track_caller]
pub(super) fn none(rule: &str, cure: &str, mut findings: Vec<Finding>) {
    if findings.is_empty() {
        return;
    }
    findings.sort_by(|a, b| (&a.at, a.line, &a.what).cmp(&(&b.at, b.line, &b.what)));
    let mut out = format!("\n\n  rule: {rule}\n");
    for Finding { at, line, what } in &findings {
        let place = if *line == 0 { at.clone() } else { format!("{at}:{line}") };
        writeln!(out, "    {place}: {what}").expect("a string takes everything");
    }
    writeln!(out, "  cure: {cure}").expect("a string takes everything");
    panic!("{out}");
}
