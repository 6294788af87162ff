//! The format of a region's folder: a number in the file `format`, written before anything else.
//!
//! Rows and frames are made to grow ([`conversation::projection`]), so most changes leave the
//! number alone. A change that makes old files unreadable raises it, and folders of other formats
//! are refused. Format 1 had no such file.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

pub(super) const FORMAT: u32 = 2;
const BEFORE_NUMBERS: u32 = 1;

/// Makes sure that the folder has this program's format; a folder without data gets it. Returns the
/// number of another format.
pub(super) fn check(folder: &Path, has_data: bool) -> io::Result<Option<u32>> {
    let path = folder.join("format");
    let found = match fs::read_to_string(&path) {
        Ok(text) => {
            let unreadable = || io::Error::other(format!("{} holds no number", path.display()));
            text.trim().parse().map_err(|_| unreadable())?
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound && has_data => BEFORE_NUMBERS,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            write(folder, &path)?;
            FORMAT
        }
        Err(error) => return Err(error),
    };
    Ok(Some(found).filter(|found| *found != FORMAT))
}

/// Under another name first: a file that was cut short would be no number.
fn write(folder: &Path, path: &Path) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut file = File::create(&new)?;
    writeln!(file, "{FORMAT}")?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_folder_gets_the_format_and_others_are_told() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(check(dir.path(), true).unwrap(), Some(1), "from before there were numbers");
        assert_eq!(check(dir.path(), false).unwrap(), None);
        assert_eq!(check(dir.path(), true).unwrap(), None);
        fs::write(dir.path().join("format"), "7\n").unwrap();
        assert_eq!(check(dir.path(), true).unwrap(), Some(7));
        fs::write(dir.path().join("format"), "x").unwrap();
        assert!(check(dir.path(), true).is_err());
    }
}
