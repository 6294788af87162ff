//! The history from every region's edge, the invariants over all that was seen, and the summary.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use client::Http;
use conversation::invariants::Report;
use serde::Serialize;
use wire::{ConversationId, DeviceId, UserId};

use super::ledger::Ledger;
use super::log::Skipped;
use super::plan::Plan;
use super::watchers;
use crate::api::RegionState;
use crate::api::client::Control;
use crate::local_mesh::access::Access;
use crate::out;

/// Findings shown.
const FINDINGS_SHOWN: usize = 20;

/// The line that `--json` prints.
#[derive(Debug, Serialize)]
pub(super) struct Summary {
    files: Vec<FileSummary>,
    sent: u64,
    acked: u64,
    lost: u64,
    duplicated: u64,
    reordered: u64,
    gaps: u64,
    seconds: f64,
    ack_ms: Percentiles,
    deliver_ms: Percentiles,
    tenant: String,
    /// Regions from whose edges the history was read; those that are not up are left out.
    history_read_from: Vec<String>,
    skipped: Skipped,
    reconnects: u64,
    findings: Vec<String>,
}

#[derive(Debug, Serialize)]
struct FileSummary {
    file: String,
    conversation_id: ConversationId,
    observer: UserId,
}

#[derive(Debug, Serialize)]
struct Percentiles {
    p50: f64,
    p99: f64,
}

pub(super) struct Verdict {
    pub(super) summary: Summary,
    clean: bool,
}

/// Reads every history and judges.
///
/// # Errors
/// When a region that is up does not give its history.
pub(super) async fn reach(
    access: &Access,
    dir: &Path,
    plan: &Plan,
    ledger: &Ledger,
    seconds: f64,
) -> anyhow::Result<Verdict> {
    let mut observers: Vec<_> =
        access.regions().iter().map(|region| watchers::name(region)).collect();
    let mut regions = Vec::new();
    for region in access.regions() {
        if !is_up(dir, region).await {
            out::note(format_args!("{region} is not up: its edge is not asked for the history"));
            continue;
        }
        match read_history(access, region, plan, ledger).await {
            Ok(observer) => observers.push(observer),
            // Lost meanwhile: what it had shown until then is checked, but it need not be whole.
            Err(why) if !is_up(dir, region).await => {
                out::note(format_args!("{region} is no longer up: {why}"));
                continue;
            }
            Err(why) => return Err(why),
        }
        regions.push(region.clone());
    }
    let report = ledger.report(&observers);
    Ok(Verdict {
        clean: report.is_clean(),
        summary: summarise(access, plan, ledger, seconds, regions, &report),
    })
}

/// Whether the region's edge should answer. A mesh that does not say is asked everywhere.
async fn is_up(dir: &Path, name: &str) -> bool {
    let Ok(control) = Control::open(dir) else { return true };
    let states = control.regions().await.unwrap_or_default();
    states.iter().all(|state| state.name != name || state.state == RegionState::Up)
}

async fn read_history(
    access: &Access,
    region: &str,
    plan: &Plan,
    ledger: &Ledger,
) -> anyhow::Result<String> {
    let observer = format!("the history at {region}");
    let device = DeviceId::new("reader")?;
    let quiet_timeout = ledger.quiet_timeout().min(Duration::from_secs(60));
    let options = client::Options {
        http_timeout: quiet_timeout,
        ..access.options(&plan.observer, Some(&device), region)
    };
    let http = Http::new(&options).at(access.edges_of(region));
    for conversation in plan.files.iter().filter_map(|file| file.conversation) {
        let messages = http.history_after(conversation, 0).await;
        let messages =
            messages.map_err(|error| anyhow::anyhow!("{observer} cannot be read: {error}"))?;
        for message in &messages {
            ledger.observe(&observer, conversation, message);
        }
    }
    Ok(observer)
}

fn summarise(
    access: &Access,
    plan: &Plan,
    ledger: &Ledger,
    seconds: f64,
    history_read_from: Vec<String>,
    report: &Report,
) -> Summary {
    let [ack_ms, deliver_ms] = ledger.latencies_ms().map(|(p50, p99)| Percentiles { p50, p99 });
    let files = plan.files.iter().filter_map(|file| {
        let conversation_id = file.conversation?;
        Some(FileSummary {
            file: file.file.clone(),
            conversation_id,
            observer: plan.observer.clone(),
        })
    });
    let found = report
        .findings
        .iter()
        .map(|(conversation, finding)| format!("{conversation}: {finding:?}"));
    let unacked = if report.acked < report.sent { ledger.troubles() } else { Vec::new() };
    Summary {
        files: files.collect(),
        sent: report.sent,
        acked: report.acked,
        lost: report.lost,
        duplicated: report.duplicated,
        reordered: report.reordered,
        gaps: report.gaps,
        seconds: (seconds * 1000.0).round() / 1000.0,
        ack_ms,
        deliver_ms,
        tenant: access.tenant().to_string(),
        history_read_from,
        skipped: plan.skipped,
        reconnects: ledger.reconnects(),
        findings: found.chain(unacked).take(FINDINGS_SHOWN).collect(),
    }
}

impl Verdict {
    /// The summary in words.
    pub(super) fn for_people(&self) -> String {
        let s = &self.summary;
        let mut text = String::new();
        let mut say = |line: String| writeln!(text, "{line}").expect("a String takes everything");
        for file in &s.files {
            say(format!("{}  {}", file.conversation_id, file.file));
        }
        let Skipped { events, actions, empty, invalid } = s.skipped;
        say(format!(
            "{} of {} messages acknowledged in {:.1} s ({:.0} a second); not sent: {events} events, {actions} actions, \
             {empty} empty, {invalid} not understood",
            s.acked,
            s.sent,
            s.seconds,
            s.acked as f64 / s.seconds.max(0.001)
        ));
        say(format!("ack      p50 {:>9.2} ms   p99 {:>9.2} ms", s.ack_ms.p50, s.ack_ms.p99));
        say(format!(
            "deliver  p50 {:>9.2} ms   p99 {:>9.2} ms",
            s.deliver_ms.p50, s.deliver_ms.p99
        ));
        say(format!(
            "{} lost, {} duplicated, {} reordered, {} gaps, as seen live in every region and in the history from {}; {} \
             reconnects",
            s.lost,
            s.duplicated,
            s.reordered,
            s.gaps,
            s.history_read_from.join(", "),
            s.reconnects
        ));
        s.findings.iter().for_each(|finding| say(format!("  {finding}")));
        text.trim_end().to_owned()
    }

    /// Whether everything was acknowledged and nothing is wrong.
    ///
    /// # Errors
    /// When not.
    pub(super) fn judge(&self) -> anyhow::Result<()> {
        let Summary { sent, acked, lost, duplicated, reordered, gaps, .. } = self.summary;
        if !self.clean {
            anyhow::bail!(
                "the check failed: {lost} lost, {duplicated} duplicated, {reordered} reordered, {gaps} gaps"
            );
        }
        if acked < sent {
            anyhow::bail!("{} of {sent} messages were not acknowledged", sent - acked);
        }
        Ok(())
    }
}
