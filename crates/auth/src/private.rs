//! Files that are written whole and that only their owner may read: signing keys and other secrets.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;

/// How the names of drafts begin.
const DRAFT: &str = ".new-";

/// Writes a file, unless it exists. Of several concurrent callers one writes it, and a reader sees
/// nothing or all of it. Creates the folder if needed. Returns whether this call created the file.
///
/// # Errors
/// As the OS says. The file then does not exist, or existed before.
pub fn create(path: &Path, content: &[u8]) -> io::Result<bool> {
    let draft = Draft::write(path, content)?;
    let created = match fs::hard_link(&draft.path, path) {
        Ok(()) => true,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => false,
        Err(error) => return Err(error),
    };
    draft.discard()?;
    sync(path)?;
    Ok(created)
}

/// Writes a file in place of an existing one: a reader sees the old one or the new one. Creates the
/// folder if needed.
///
/// # Errors
/// As the OS says. The old file is unchanged, or the new one is in place.
pub fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let draft = Draft::write(path, content)?;
    fs::rename(&draft.path, path)?;
    sync(path)
}

/// Removes what killed processes had begun to write in a folder. Nobody else may write there
/// meanwhile.
///
/// # Errors
/// As the OS says. A folder that does not exist has no drafts.
pub fn discard_drafts(folder: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(DRAFT) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Whether somebody else may read a file.
///
/// # Errors
/// As the OS says, for example that the file does not exist.
pub fn is_exposed(path: &Path) -> io::Result<bool> {
    let metadata = fs::metadata(path)?;
    Ok(others_may_read(&metadata))
}

/// A file that is not yet under its name. Dropped, it is deleted.
struct Draft {
    path: PathBuf,
}

impl Draft {
    fn write(path: &Path, content: &[u8]) -> io::Result<Self> {
        let folder = folder_of(path);
        private_folder(folder)?;
        let mut name = [0; 8];
        getrandom::fill(&mut name).map_err(|error| io::Error::other(error.to_string()))?;
        let draft = Self { path: folder.join(format!("{DRAFT}{}", HEXLOWER.encode(&name))) };
        let mut file = new_private(&draft.path)?;
        file.write_all(content)?;
        file.sync_all()?;
        Ok(draft)
    }

    fn discard(self) -> io::Result<()> {
        fs::remove_file(&self.path)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // After a rename or a discard it is gone already; after an error there is nobody left to
        // tell.
        let _ = fs::remove_file(&self.path);
    }
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// The name of a new file is on disk only with its folder.
fn sync(path: &Path) -> io::Result<()> {
    fs::File::open(folder_of(path))?.sync_all()
}

#[cfg(unix)]
fn private_folder(folder: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

#[cfg(unix)]
fn new_private(path: &Path) -> io::Result<fs::File> {
    use std::os::unix::fs::OpenOptionsExt;
    fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

#[cfg(unix)]
fn others_may_read(metadata: &fs::Metadata) -> bool {
    use std::os::unix::fs::PermissionsExt;
    metadata.permissions().mode() & 0o077 != 0
}

#[cfg(not(unix))]
fn private_folder(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)
}

#[cfg(not(unix))]
fn new_private(path: &Path) -> io::Result<fs::File> {
    fs::File::create_new(path)
}

#[cfg(not(unix))]
fn others_may_read(_: &fs::Metadata) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_file_is_made_once_replaced_whole_and_stays_private() {
        let data = tempfile::tempdir().unwrap();
        let path = data.path().join("folder/secret");
        assert!(create(&path, b"one").unwrap());
        assert!(!create(&path, b"two").unwrap());
        assert_eq!(fs::read(&path).unwrap(), b"one");
        replace(&path, b"three").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"three");
        assert!(!is_exposed(&path).unwrap());
        let names: Vec<_> = fs::read_dir(data.path().join("folder")).unwrap().collect();
        assert_eq!(names.len(), 1, "no draft is left: {names:?}");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(is_exposed(&path).unwrap());
        replace(&path, b"four").unwrap();
        assert!(
            !is_exposed(&path).unwrap(),
            "a file that was open to others is closed by its successor"
        );
    }

    #[test]
    fn what_cannot_be_written_leaves_nothing_behind() {
        let data = tempfile::tempdir().unwrap();
        let path = data.path().join("taken");
        fs::create_dir(&path).unwrap();
        fs::write(path.join("inside"), "").unwrap();
        assert!(replace(&path, b"x").is_err());
        assert_eq!(fs::read_dir(data.path()).unwrap().count(), 1);
        assert!(is_exposed(&data.path().join("none")).is_err());
    }
}
