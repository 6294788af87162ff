//! Before a replica is opened: is everything there that it may have acknowledged? Reads, and
//! changes nothing.

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;

use wire::{Durability, ZoneId};

use super::highwater::{Found, HighWaterFile, HighWaterMark};
use super::journal::{self, Journal};
use super::report::Finding;
use super::tables::{self, Checked};

const UNENDED: &str = "an earlier repair of this replica did not end";

/// The files of one region.
#[derive(Clone, Debug)]
pub(super) struct Files {
    /// The region's folder.
    pub(super) dir: PathBuf,
}

impl Files {
    pub(super) fn store(&self) -> PathBuf {
        self.dir.join("store")
    }

    pub(super) fn highwater(&self) -> PathBuf {
        self.dir.join("commits")
    }

    /// Where what was cut off or set aside is kept.
    pub(super) fn damaged(&self) -> PathBuf {
        self.dir.join("damaged")
    }
}

/// What the files say before anyone opens them.
#[derive(Debug)]
pub(super) struct Assessment {
    /// There was no replica here.
    pub(super) is_new: bool,
    pub(super) high_water: HighWaterMark,
    pub(super) journals: Vec<Journal>,
    /// Of tables.
    pub(super) checked_bytes: u64,
    pub(super) findings: Vec<Finding>,
    pub(super) loss: Option<Loss>,
}

/// Acknowledged commits that are not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Loss {
    /// The first of them; 0: nobody knows which.
    pub(super) from: u64,
    /// The file that should have them.
    pub(super) file: PathBuf,
    pub(super) what: String,
    pub(super) touches: Touches,
}

/// Of which zones and classes something may be lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Touches {
    /// Those that had something in the lost commits, by the side file.
    ByNumber,
    /// Nobody knows: all of the region's zones.
    AllZones,
    /// These.
    These(BTreeSet<(ZoneId, Durability)>),
}

impl Loss {
    pub(super) fn of_everything(file: PathBuf, what: impl Into<String>) -> Self {
        Self { from: 0, file, what: what.into(), touches: Touches::ByNumber }
    }

    /// The zones and classes of which something may be lost.
    pub(super) fn touched(
        &self,
        high_water: &HighWaterMark,
        zones: &[ZoneId],
    ) -> BTreeSet<(ZoneId, Durability)> {
        match &self.touches {
            Touches::ByNumber => high_water
                .last
                .iter()
                .filter(|&(_, &at)| at >= self.from)
                .map(|(&key, _)| key)
                .collect(),
            Touches::AllZones => {
                let classes = [Durability::Region, Durability::MultiRegion];
                zones.iter().flat_map(|&zone| classes.map(|class| (zone, class))).collect()
            }
            Touches::These(these) => these.clone(),
        }
    }
}

/// `tables`: whether the files of the tables are read too.
pub(super) fn assess(files: &Files, tables: bool) -> io::Result<Assessment> {
    let store = files.store();
    // It comes under its name whole ([`super::engine::Engine::create`]).
    let is_new = !store.try_exists()?;
    let (high_water, unreadable) = match HighWaterFile::read(&files.highwater())? {
        Found::Mark(high_water) => (high_water, false),
        Found::Nothing => (HighWaterMark::default(), !is_new),
        Found::Unreadable => (HighWaterMark::default(), true),
    };
    let mut findings = Vec::new();
    if unreadable && !is_new {
        findings.push(Finding::HighWaterUnreadable { file: files.highwater() });
    }
    if is_new {
        let what = if high_water.synced > 0 {
            Some("the database is gone")
        } else if high_water.incomplete {
            Some(UNENDED)
        } else {
            None
        };
        let loss = what.map(|what| Loss::of_everything(store, what));
        return Ok(Assessment {
            is_new,
            high_water,
            journals: Vec::new(),
            checked_bytes: 0,
            findings,
            loss,
        });
    }
    let journals = journal::read_all(&store)?;
    let mut checked_bytes = 0;
    let mut loss = high_water.incomplete.then(|| Loss::of_everything(store.clone(), UNENDED));
    if tables && loss.is_none() {
        match tables::check(&store)? {
            Checked::Whole(bytes) => checked_bytes = bytes,
            Checked::Damaged(file, what) => loss = Some(Loss::of_everything(file, what)),
        }
    }
    let loss = loss.or_else(|| missing_commits(&journals, &high_water, unreadable));
    if loss.is_none() {
        let torn = journals.iter().filter(|journal| journal.broken.is_some());
        findings.extend(
            torn.map(|j| Finding::TornTail { file: j.path.clone(), bytes: j.broken_bytes }),
        );
    }
    Ok(Assessment { is_new, high_water, journals, checked_bytes, findings, loss })
}

/// The rules of the commit numbers, see [`super::highwater`].
fn missing_commits(
    journals: &[Journal],
    high_water: &HighWaterMark,
    unreadable: bool,
) -> Option<Loss> {
    // Somewhere it is written that all up to here were synced.
    let said = journals
        .iter()
        .flat_map(|j| j.commits.iter().chain(&j.later))
        .map(|commit| commit.synced_before)
        .max();
    let proven = said.unwrap_or(0).max(high_water.synced);
    let touches = if unreadable || proven > high_water.synced {
        Touches::AllZones
    } else {
        Touches::ByNumber
    };
    let loss = |journal: &Journal, from: u64, what: &str| Loss {
        from,
        file: journal.path.clone(),
        what: format!(
            "{what} at byte {}; acknowledged commits from number {from} on are destroyed",
            journal.valid_end
        ),
        touches: touches.clone(),
    };
    let mut before: Option<(&Journal, u64)> = None;
    // A journal that is no longer written has had commits.
    let mut emptied: Option<&Journal> = None;
    for (index, journal) in journals.iter().enumerate() {
        for commit in &journal.commits {
            let vouched_for = commit.number <= high_water.floor + 1;
            if let Some(emptied) = emptied.take().filter(|_| !vouched_for) {
                let from = before.map_or(0, |(_, number)| number + 1);
                return Some(loss(emptied, from, emptied.broken.unwrap_or("it is empty")));
            }
            if let Some((at, number)) = before
                && commit.number != number + 1
                && !vouched_for
            {
                return Some(loss(at, number + 1, at.broken.unwrap_or("it ends too early")));
            }
            before = Some((journal, commit.number));
        }
        if journal.commits.is_empty() && index + 1 < journals.len() {
            emptied = Some(journal);
        }
    }
    match before {
        Some((journal, number)) if number < proven => {
            Some(loss(journal, number + 1, journal.broken.unwrap_or("it ends too early")))
        }
        Some(_) => None,
        // No journal holds a commit: fjall's tables must, and whether they do is asked once they
        // are open. Unless the first batch is broken and others follow.
        None => journals
            .iter()
            .find(|j| !j.later.is_empty() && proven > 0)
            .map(|j| loss(j, 0, j.broken.unwrap_or(""))),
    }
}

#[cfg(test)]
mod tests {
    use super::super::commit::Commit;
    use super::*;

    fn journal(numbers: std::ops::Range<u64>, broken: bool, later: &[u64]) -> Journal {
        let commit = |number: u64| Commit { number, synced_before: number.saturating_sub(1) };
        Journal {
            path: "0.jnl".into(),
            commits: numbers.map(commit).collect(),
            valid_end: 1000,
            broken: broken.then_some("a batch without its end"),
            broken_bytes: 10,
            later: later.iter().copied().map(commit).collect(),
        }
    }

    fn high_water(synced: u64) -> HighWaterMark {
        HighWaterMark { synced, ..HighWaterMark::default() }
    }

    fn lost_from(journals: &[Journal], high_water: &HighWaterMark) -> Option<u64> {
        missing_commits(journals, high_water, false).map(|loss| loss.from)
    }

    #[test]
    fn a_torn_tail_behind_the_last_synced_commit_is_no_loss() {
        assert_eq!(lost_from(&[journal(5..10, true, &[])], &high_water(9)), None);
        assert_eq!(
            lost_from(&[journal(5..10, true, &[11])], &high_water(9)),
            Some(10),
            "11 says that 10 was synced"
        );
    }

    #[test]
    fn a_journal_that_ends_before_the_high_water_is_a_loss() {
        assert_eq!(lost_from(&[journal(5..10, false, &[])], &high_water(10)), Some(10));
        assert_eq!(
            lost_from(&[journal(1..5, false, &[]), journal(6..10, false, &[])], &high_water(9)),
            Some(5)
        );
        assert_eq!(
            lost_from(&[journal(1..1, false, &[]), journal(6..10, false, &[])], &high_water(9)),
            Some(0)
        );
    }

    #[test]
    fn an_old_high_water_is_made_up_for_by_later_commits() {
        let loss = missing_commits(&[journal(1..5, true, &[6, 7])], &high_water(2), false).unwrap();
        assert_eq!((loss.from, loss.touches), (5, Touches::AllZones));
    }

    #[test]
    fn what_was_vouched_for_may_be_missing() {
        let repaired = HighWaterMark { floor: 5, ..high_water(9) };
        assert_eq!(
            lost_from(&[journal(1..5, false, &[]), journal(6..10, false, &[])], &repaired),
            None
        );
        assert_eq!(
            lost_from(&[journal(1..1, false, &[]), journal(6..10, false, &[])], &repaired),
            None
        );
        assert_eq!(
            lost_from(&[journal(1..5, false, &[]), journal(7..10, false, &[])], &repaired),
            Some(5)
        );
    }

    #[test]
    fn a_repair_that_did_not_end_is_a_loss_of_everything() {
        let dir = tempfile::tempdir().unwrap();
        let files = Files { dir: dir.path().to_owned() };
        std::fs::create_dir_all(files.store().join("keyspaces")).unwrap();
        std::fs::write(files.store().join("version"), b"").unwrap();
        let zone = (ZoneId(1), Durability::MultiRegion);
        let unfinished =
            HighWaterMark { incomplete: true, last: [(zone, 7)].into(), ..high_water(9) };
        HighWaterFile::open(&files.highwater(), unfinished).unwrap();
        let found = assess(&files, true).unwrap();
        let loss = found.loss.unwrap();
        assert_eq!((loss.from, loss.touched(&found.high_water, &[ZoneId(1)])), (0, [zone].into()));
    }

    #[test]
    fn only_zones_with_something_in_the_lost_commits_are_touched() {
        let [early, late] = [ZoneId(1), ZoneId(2)].map(|zone| (zone, Durability::Region));
        let high_water = HighWaterMark { last: [(early, 4), (late, 9)].into(), ..high_water(9) };
        let loss = missing_commits(&[journal(1..6, true, &[])], &high_water, false).unwrap();
        assert_eq!(loss.touched(&high_water, &[ZoneId(1), ZoneId(2)]), [late].into());
    }
}
