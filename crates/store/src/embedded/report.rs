//! What an opening found, and why it may refuse.

use std::fmt;
use std::path::PathBuf;

use wire::RegionId;

/// What was found when the store was opened.
#[derive(Clone, Debug, Default)]
pub struct OpenReport {
    /// In the order of the options.
    pub regions: Vec<RegionReport>,
}

/// What was found in one region's replica.
#[derive(Clone, Debug)]
pub struct RegionReport {
    /// Which.
    pub region: RegionId,
    /// Its name.
    pub name: String,
    /// Bytes of its tables, all checked; 0 when checking was not asked for. Its journals are always
    /// checked.
    pub checked_bytes: u64,
    /// What was not as it should be, or worth knowing. Empty after an orderly close.
    pub findings: Vec<Finding>,
}

/// Something worth knowing about a replica that was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// It did not exist.
    Created,
    /// The last write was cut short when the process or the machine stopped. It had not been
    /// acknowledged.
    TornTail {
        /// The journal.
        file: PathBuf,
        /// How much of it is void, bytes.
        bytes: u64,
    },
    /// The file that says how far commits had come cannot be read. Damage at the very end of the
    /// journal could not have been noticed.
    HighWaterUnreadable {
        /// That file.
        file: PathBuf,
    },
    /// Acknowledged rows were destroyed here and have been fetched from the other regions.
    Healed {
        /// The damaged file.
        file: PathBuf,
        /// What was wrong with it.
        what: String,
        /// Where the damaged bytes are kept.
        kept: PathBuf,
        /// Rows that came from the other regions.
        fetched: u64,
        /// Rows that could be read behind the damage.
        salvaged: u64,
    },
    /// Acknowledged rows were destroyed here, and the operator has accepted that.
    LossAccepted {
        /// The damaged file.
        file: PathBuf,
        /// What was wrong with it.
        what: String,
    },
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Created => f.write_str("created"),
            Self::TornTail { file, bytes } => {
                write!(
                    f,
                    "{}: {bytes} bytes of an unacknowledged write were cut off",
                    file.display()
                )
            }
            Self::HighWaterUnreadable { file } => {
                write!(
                    f,
                    "{}: unreadable; damage at the very end of the journal would go unnoticed",
                    file.display()
                )
            }
            Self::Healed { file, what, kept, fetched, salvaged } => write!(
                f,
                "{}: {what}; healed: {fetched} rows from other regions, {salvaged} saved here (damaged bytes kept in {})",
                file.display(),
                kept.display()
            ),
            Self::LossAccepted { file, what } => {
                write!(f, "{}: {what}; loss accepted", file.display())
            }
        }
    }
}

impl fmt::Display for OpenReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for region in &self.regions {
            for finding in &region.findings {
                writeln!(f, "{}: {finding}", region.name)?;
            }
        }
        Ok(())
    }
}

/// Why the store was not opened. Nothing was changed, unless a repair says so.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The options contradict themselves.
    #[error("store options: {0}")]
    Options(String),
    /// Another process has it.
    #[error("region {name}: {} is in use by another process", file.display())]
    InUse {
        /// Whose replica.
        name: String,
        /// Its database.
        file: PathBuf,
    },
    /// Acknowledged records are destroyed, and the other regions cannot make up for it.
    #[error(
        "region {name}: {}: {what}. {why}. Cure: bring {} back from a copy; or accept the loss of what only this replica \
         had: name the region in `accept_loss`, and all that can still be read is kept",
        file.display(), dir.display()
    )]
    Destroyed {
        /// Whose replica.
        name: String,
        /// The damaged file.
        file: PathBuf,
        /// What is wrong with it.
        what: String,
        /// Why the others cannot help.
        why: String,
        /// The region's folder.
        dir: PathBuf,
    },
    /// A version of this program wrote the data that has another format.
    #[error(
        "region {name}: {} has format {found}, and this program reads format {read}. Cure: open it \
         with the version that wrote it; or move it away, to begin anew without its data",
        dir.display()
    )]
    OtherFormat {
        /// Whose replica.
        name: String,
        /// The region's folder.
        dir: PathBuf,
        /// The format of the folder.
        found: u32,
        /// The only format that this program reads.
        read: u32,
    },
    /// The operating system said no.
    #[error("region {name}: {what}: {source}")]
    Io {
        /// Whose replica.
        name: String,
        /// Doing what.
        what: &'static str,
        /// Its words.
        source: std::io::Error,
    },
}
