//! Opening: every replica is assessed before any is touched; the whole ones are opened; a damaged
//! one is healed from them if they must have everything that it may have acknowledged, and refused
//! otherwise.
//!
//! When must they? A `multi-region` record was acknowledged by a majority of the zone's *n*
//! regions. If this replica was one of them, at least `majority - 1` of the other `n - 1` have it,
//! so any `n - majority + 1` of those include one that does: of three regions, both others. A
//! `region` record was acknowledged by this replica alone.

use std::collections::BTreeSet;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::sync::Arc;

use wire::{Durability, RegionId, ZoneId};

use super::assess::{Assessment, Files, Loss, Touches, assess};
use super::commit::Commit;
use super::engine::{Closed, Engine, Sizes};
use super::highwater::{HighWaterFile, HighWaterMark};
use super::report::{Finding, OpenError};
use super::{engine, format, journal, merge, repair, versions};
use crate::cell::{self, Cell, Table};
use crate::quorum::ReplicaError;

/// A replica that is ready to serve.
pub(super) struct Opened {
    pub(super) engine: Arc<Engine>,
    pub(super) closed: Closed,
    pub(super) highwater: HighWaterFile,
    pub(super) last: Commit,
    /// It was closed in order, and nothing has happened to it since.
    pub(super) clean: bool,
    pub(super) checked_bytes: u64,
    pub(super) findings: Vec<Finding>,
}

/// What opening needs to know of a region.
pub(super) struct Site<'a> {
    pub(super) region: RegionId,
    pub(super) name: &'a str,
    pub(super) files: Files,
    /// The zones that it is in, each with all its regions.
    pub(super) zones: Vec<(ZoneId, Arc<[RegionId]>)>,
    pub(super) sizes: Sizes,
    pub(super) verify: bool,
    pub(super) accept_loss: bool,
}

/// What came of the first try.
pub(super) enum Tried {
    Whole(Opened),
    Lost(Assessment, Loss),
}

impl Site<'_> {
    fn io(&self, what: &'static str) -> impl FnOnce(io::Error) -> OpenError {
        let name = self.name.to_owned();
        move |source| OpenError::Io { name, what, source }
    }

    /// Reads; changes nothing.
    pub(super) fn assess(&self) -> Result<Assessment, OpenError> {
        let create = || {
            if !self.files.dir.try_exists()? {
                private_folder(&self.files.dir)?;
                if let Some(parent) = self.files.dir.parent() {
                    std::fs::File::open(parent)?.sync_all()?;
                }
            }
            Ok(())
        };
        create().map_err(self.io("creating its folder"))?;
        let has_data =
            || Ok(self.files.store().try_exists()? || self.files.highwater().try_exists()?);
        let other = has_data().and_then(|has_data| format::check(&self.files.dir, has_data));
        if let Some(found) = other.map_err(self.io("reading its format"))? {
            let (name, dir) = (self.name.to_owned(), self.files.dir.clone());
            return Err(OpenError::OtherFormat { name, dir, found, read: format::FORMAT });
        }
        assess(&self.files, self.verify).map_err(self.io("reading its files"))
    }

    /// Opens it if nothing is lost.
    pub(super) fn open_whole(&self, mut assessment: Assessment) -> Result<Tried, OpenError> {
        if let Some(loss) = assessment.loss.clone() {
            return Ok(Tried::Lost(assessment, loss));
        }
        for journal in assessment.journals.iter().filter(|journal| journal.broken.is_some()) {
            // fjall refuses a tail that is torn in the wrong place; what is there was never
            // acknowledged.
            let surely_void = journal
                .commits
                .last()
                .is_some_and(|last| last.number >= assessment.high_water.synced);
            self.cut(journal, !surely_void).map_err(self.io("cutting a torn journal"))?;
        }
        if assessment.is_new {
            // The side file first: a database without one has lost it.
            HighWaterFile::open(&self.files.highwater(), assessment.high_water.clone())
                .map_err(self.io("writing its side file"))?;
            self.create()?;
        }
        let (engine, closed) = match self.engine()? {
            Ok(opened) => opened,
            Err(what) => {
                return Ok(Tried::Lost(assessment, Loss::of_everything(self.files.store(), what)));
            }
        };
        let last = match engine.last_commit() {
            Ok(last) if last.number < assessment.high_water.synced => {
                let what = format!(
                    "it ends at commit {}, but {} was acknowledged",
                    last.number, assessment.high_water.synced
                );
                let loss =
                    Loss { from: last.number + 1, ..Loss::of_everything(self.files.store(), what) };
                return Ok(Tried::Lost(assessment, loss));
            }
            Ok(last) => last,
            Err(error) => return Ok(Tried::Lost(assessment, self.unreadable(&error))),
        };
        let high_water = HighWaterMark {
            synced: last.number.max(assessment.high_water.synced),
            ..assessment.high_water.clone()
        };
        let clean = assessment.is_new || high_water.clean;
        let highwater = HighWaterFile::open(&self.files.highwater(), high_water)
            .map_err(self.io("writing its side file"))?;
        if assessment.is_new {
            assessment.findings.push(Finding::Created);
        }
        let Assessment { checked_bytes, findings, .. } = assessment;
        Ok(Tried::Whole(Opened {
            engine: Arc::new(engine),
            closed,
            highwater,
            last,
            clean,
            checked_bytes,
            findings,
        }))
    }

    fn unreadable(&self, error: &ReplicaError) -> Loss {
        let what = match error {
            ReplicaError::Damaged(what) => what.clone(),
            other => format!("{other:?}"),
        };
        Loss::of_everything(self.files.store(), what)
    }

    /// Makes the database.
    fn create(&self) -> Result<(), OpenError> {
        Engine::create(&self.files.store(), self.sizes)
            .map_err(io::Error::other)
            .map_err(self.io("creating a new database"))
    }

    /// fjall checks much by panicking.
    fn engine(&self) -> Result<Result<(Engine, Closed), String>, OpenError> {
        if !self.files.store().join("version").try_exists().map_err(self.io("opening it"))? {
            return Ok(Err("its version file is gone".to_owned()));
        }
        let open = || Engine::open(&self.files.store(), self.sizes);
        match std::panic::catch_unwind(AssertUnwindSafe(open)) {
            Ok(Ok(opened)) => Ok(Ok(opened)),
            Ok(Err(fjall::Error::Locked)) => {
                Err(OpenError::InUse { name: self.name.to_owned(), file: self.files.store() })
            }
            // The disk is full, or may not be written: what is on it is not lost for that.
            Ok(Err(error)) => match engine::io_error(&error) {
                Some(io) if !is_about_content(io) => {
                    Err(self.io("opening its database")(io::Error::new(io.kind(), io.to_string())))
                }
                Some(_) | None => Ok(Err(engine::words(&error))),
            },
            Err(_) => Ok(Err("the engine cannot read its files".to_owned())),
        }
    }

    /// Why a loss cannot be made good from these, if it cannot.
    pub(super) fn refusal(
        &self,
        high_water: &HighWaterMark,
        loss: &Loss,
        whole: &[RegionId],
    ) -> Option<OpenError> {
        if self.accept_loss {
            return None;
        }
        let zones: Vec<ZoneId> = self.zones.iter().map(|&(zone, _)| zone).collect();
        for (zone, class) in loss.touched(high_water, &zones) {
            let Some((_, regions)) = self.zones.iter().find(|(z, _)| *z == zone) else { continue };
            let others =
                regions.iter().filter(|&&r| r != self.region && whole.contains(&r)).count();
            let majority = regions.len() / 2 + 1;
            let needed = regions.len() - majority + 1;
            let why = match class {
                Durability::Region => {
                    format!(
                        "Records of the single-region shards of zone {} are acknowledged by this replica alone",
                        zone.0
                    )
                }
                Durability::MultiRegion if others < needed => format!(
                    "Of the other regions of zone {}, {others} are whole, and {needed} are needed to be sure of having all",
                    zone.0
                ),
                Durability::MultiRegion => continue,
            };
            return Some(OpenError::Destroyed {
                name: self.name.to_owned(),
                file: loss.file.clone(),
                what: loss.what.clone(),
                why,
                dir: self.files.dir.clone(),
            });
        }
        None
    }

    /// Brings a damaged replica back from what can still be read in it and from the others.
    pub(super) fn heal(
        &self,
        assessment: &Assessment,
        loss: &Loss,
        others: &[(RegionId, Arc<Engine>)],
    ) -> Result<Opened, OpenError> {
        let mut high_water = HighWaterMark { incomplete: true, ..assessment.high_water.clone() };
        let zones: Vec<ZoneId> = self.zones.iter().map(|&(zone, _)| zone).collect();
        let touched = loss.touched(&high_water, &zones);
        for &key in &touched {
            // Should this be cut short: who must help next time.
            high_water.last.entry(key).or_insert(high_water.synced);
        }
        let mut highwater = HighWaterFile::open(&self.files.highwater(), high_water)
            .map_err(self.io("writing its side file"))?;
        let mut saved = Vec::new();
        let only_journals = loss.from > 0;
        if only_journals {
            for journal in &assessment.journals {
                saved.extend(
                    self.salvage(journal).map_err(self.io("saving what a journal still holds"))?,
                );
            }
            for journal in assessment.journals.iter().filter(|journal| journal.broken.is_some()) {
                self.cut(journal, true).map_err(self.io("cutting a damaged journal"))?;
            }
        }
        let sound = if only_journals { self.sound_engine()? } else { None };
        let (engine, closed) = match sound {
            Some(opened) => opened,
            None => {
                self.set_aside().map_err(self.io("setting the damaged database aside"))?;
                self.create()?;
                self.engine()?.map_err(|what| OpenError::Io {
                    name: self.name.to_owned(),
                    what: "creating a new database",
                    source: io::Error::other(what),
                })?
            }
        };
        let mut writer =
            Direct { number: engine.last_commit().unwrap_or_default().number, engine: &engine };
        let failed = |error| OpenError::Io {
            name: self.name.to_owned(),
            what: "repairing",
            source: io::Error::other(format!("{error:?}")),
        };
        let saved: Vec<Cell> =
            saved.into_iter().filter_map(|item| as_cell(&engine, item)).collect();
        let salvaged = saved.len() as u64;
        writer.write(&saved, true).map_err(failed)?;
        let fetched = self.fetch(&mut writer, others).map_err(failed)?;
        writer.write(&[], true).map_err(failed)?;
        let last = Commit { number: writer.number, synced_before: writer.number };
        highwater
            .rewrite(|high_water| {
                high_water.incomplete = false;
                high_water.synced = last.number;
                high_water.floor = last.number;
                for key in high_water.last.keys().copied().chain(touched).collect::<Vec<_>>() {
                    high_water.last.insert(key, last.number);
                }
            })
            .map_err(self.io("writing its side file"))?;
        let (file, what) = (loss.file.clone(), loss.what.clone());
        let finding = if self.accept_loss {
            Finding::LossAccepted { file, what }
        } else {
            Finding::Healed { file, what, kept: self.files.damaged(), fetched, salvaged }
        };
        let findings = [assessment.findings.clone(), vec![finding]].concat();
        Ok(Opened {
            engine: Arc::new(engine),
            closed,
            highwater,
            last,
            clean: false,
            checked_bytes: 0,
            findings,
        })
    }

    /// The database, if it opens.
    fn sound_engine(&self) -> Result<Option<(Engine, Closed)>, OpenError> {
        Ok(self.engine()?.ok().filter(|(engine, _)| engine.last_commit().is_ok()))
    }

    fn fetch(
        &self,
        writer: &mut Direct<'_>,
        others: &[(RegionId, Arc<Engine>)],
    ) -> Result<u64, ReplicaError> {
        let mut fetched = 0;
        let engine = writer.engine;
        for (zone, regions) in &self.zones {
            for (_, theirs) in others.iter().filter(|(region, _)| regions.contains(region)) {
                fetched +=
                    repair::missing(engine, theirs, *zone, |cells| writer.write(&cells, false))?;
            }
        }
        Ok(fetched)
    }

    fn salvage(&self, journal: &journal::Journal) -> io::Result<Vec<journal::Item>> {
        let zones: BTreeSet<ZoneId> = self.zones.iter().map(|&(zone, _)| zone).collect();
        let ours = |key: &[u8], value: &[u8]| {
            cell::zone_of(key).is_some_and(|zone| zones.contains(&zone))
                && (cell::peek(key, value).is_ok()
                    || cell::peek(versions::cell_key(Table::Projection, key), value).is_ok())
        };
        if journal.broken.is_some() {
            journal::salvage(&journal.path, journal.valid_end, ours)
        } else {
            Ok(Vec::new())
        }
    }

    /// Ends a journal where its last whole batch ends.
    fn cut(&self, journal: &journal::Journal, keep_the_rest: bool) -> io::Result<()> {
        if keep_the_rest {
            let bytes = std::fs::read(&journal.path)?;
            let from = usize::try_from(journal.valid_end).unwrap_or(usize::MAX).min(bytes.len());
            let to =
                from + usize::try_from(journal.broken_bytes).unwrap_or(0).min(bytes.len() - from);
            self.keep(&journal.path, &bytes[from..to])?;
        }
        let file = std::fs::OpenOptions::new().write(true).open(&journal.path)?;
        file.set_len(journal.valid_end)?;
        file.sync_all()
    }

    fn keep(&self, of: &Path, bytes: &[u8]) -> io::Result<()> {
        private_folder(&self.files.damaged())?;
        let name = of.file_name().and_then(|name| name.to_str()).unwrap_or("journal");
        std::fs::write(self.free_name(name), bytes)
    }

    fn set_aside(&self) -> io::Result<()> {
        private_folder(&self.files.damaged())?;
        if self.files.store().try_exists()? {
            std::fs::rename(self.files.store(), self.free_name("store"))?;
        }
        Ok(())
    }

    fn free_name(&self, name: &str) -> std::path::PathBuf {
        let folder = self.files.damaged();
        let path = |n: u32| folder.join(format!("{n}-{name}"));
        (0..).map(path).find(|path| !path.exists()).expect("the numbers do not end")
    }
}

/// Whether this tells of what stands in a file, and not of the disk.
fn is_about_content(error: &io::Error) -> bool {
    use io::ErrorKind::{AlreadyExists, InvalidData, InvalidInput, NotFound, Other, UnexpectedEof};
    let content = [AlreadyExists, InvalidData, InvalidInput, NotFound, Other, UnexpectedEof];
    content.contains(&error.kind())
}

/// A folder that nobody else may look into.
fn private_folder(folder: &Path) -> io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// A new replica beside others that have data of its zones: it may not count for them before it has
/// all of it.
pub(super) fn is_late(site: &Site<'_>, all: &[(RegionId, &Assessment)]) -> Option<Loss> {
    let mut these = BTreeSet::new();
    for (zone, regions) in &site.zones {
        let others = all.iter().filter(|(region, other)| {
            *region != site.region && regions.contains(region) && !other.is_new
        });
        for (_, other) in others {
            let unknown =
                other.findings.iter().any(|f| matches!(f, Finding::HighWaterUnreadable { .. }));
            if unknown || other.high_water.last.contains_key(&(*zone, Durability::MultiRegion)) {
                these.insert((*zone, Durability::MultiRegion));
            }
        }
    }
    let what = "there is no database here, but other regions of its zones have data";
    (!these.is_empty()).then(|| Loss {
        touches: Touches::These(these),
        ..Loss::of_everything(site.files.store(), what)
    })
}

/// Writes to a database that nobody else uses yet.
struct Direct<'a> {
    engine: &'a Engine,
    number: u64,
}

impl Direct<'_> {
    fn write(&mut self, cells: &[Cell], to_disk: bool) -> Result<(), ReplicaError> {
        self.number += 1;
        let commit = Commit { number: self.number, synced_before: 0 };
        merge::write(self.engine, cells.iter(), commit, to_disk)
    }
}

fn as_cell(engine: &Engine, item: journal::Item) -> Option<Cell> {
    let table = engine.table_numbered(item.keyspace)?;
    let key = versions::cell_key(table, &item.key).to_vec();
    Some(Cell { table, key: key.into(), value: item.value.into() })
}
