//! Checks the files of fjall's tables before fjall opens them, and changes nothing.
//!
//! fjall knows the checksum of every file and does not look at it: a table list (`v<n>`) with a
//! flipped bit opens as a database that has lost tables, and the files of the lost ones are removed
//! as orphans. In each keyspace's folder:
//!
//! ```text
//! current      n u64, XXH3-128 of v<n>, 0                                          (integers
//! little endian)
//! v<n>         an sfa archive; its section "tables" is: levels u8, of each: runs u8, of each:
//! tables u32,
//!              of each: id u64, 0, XXH3-128 of the file tables/<id>, seqno u64
//! tables/<id>  the rows
//! ```

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::Xxh3;

/// What was found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Checked {
    /// All is as it was written: so many bytes.
    Whole(u64),
    /// This file is not.
    Damaged(PathBuf, String),
}

/// Reads all tables of all keyspaces of the database.
pub(super) fn check(database: &Path) -> io::Result<Checked> {
    let mut bytes = 0;
    let keyspaces = database.join("keyspaces");
    let entries = match fs::read_dir(&keyspaces) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(Checked::Damaged(keyspaces, "it is missing".to_owned()));
        }
        entries => entries?,
    };
    for entry in entries {
        let folder = entry?.path();
        if folder.is_dir() {
            match check_keyspace(&folder)? {
                Checked::Whole(more) => bytes += more,
                damaged => return Ok(damaged),
            }
        }
    }
    Ok(Checked::Whole(bytes))
}

fn check_keyspace(folder: &Path) -> io::Result<Checked> {
    let current = folder.join("current");
    // Without it fjall removes the whole folder.
    let Some((list, sum)) = read_current(folder, &current)? else {
        return Ok(Checked::Damaged(
            current,
            "the file that names a table's present state is not readable".to_owned(),
        ));
    };
    if checksum(&list)?.is_none_or(|(found, _)| found != sum) {
        return Ok(Checked::Damaged(list, "a list of tables is not what was written".to_owned()));
    }
    let tables = match read_list(&list) {
        Ok(tables) => tables,
        Err(error) => {
            return Ok(Checked::Damaged(
                list,
                format!("a list of tables is not readable: {error}"),
            ));
        }
    };
    let mut bytes = 0;
    for (id, sum) in tables {
        let path = folder.join("tables").join(id.to_string());
        match checksum(&path)? {
            Some((found, length)) if found == sum => bytes += length,
            Some(_) => {
                return Ok(Checked::Damaged(path, "a table is not what was written".to_owned()));
            }
            None => return Ok(Checked::Damaged(path, "a table is missing".to_owned())),
        }
    }
    Ok(Checked::Whole(bytes))
}

fn read_current(folder: &Path, current: &Path) -> io::Result<Option<(PathBuf, u128)>> {
    let bytes = match fs::read(current) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let parsed = bytes.split_first_chunk::<8>().and_then(|(version, rest)| {
        let (sum, rest) = rest.split_first_chunk::<16>()?;
        (rest == [0]).then(|| {
            (folder.join(format!("v{}", u64::from_le_bytes(*version))), u128::from_le_bytes(*sum))
        })
    });
    Ok(parsed)
}

/// The ids and checksums of all tables.
fn read_list(path: &Path) -> io::Result<Vec<(u64, u128)>> {
    let archive = sfa::Reader::new(path).map_err(|error| io::Error::other(format!("{error:?}")))?;
    let section = archive
        .toc()
        .section(b"tables")
        .ok_or_else(|| io::Error::other("no section \"tables\""))?;
    let mut reader = section.buf_reader(path)?;
    let mut tables = Vec::new();
    for _level in 0..byte(&mut reader)? {
        for _run in 0..byte(&mut reader)? {
            for _table in 0..u32::from_le_bytes(read(&mut reader)?) {
                let id = u64::from_le_bytes(read(&mut reader)?);
                let _kind_of_checksum = byte(&mut reader)?;
                let sum = u128::from_le_bytes(read(&mut reader)?);
                let _seqno: [u8; 8] = read(&mut reader)?;
                tables.push((id, sum));
            }
        }
    }
    Ok(tables)
}

fn byte(reader: &mut impl Read) -> io::Result<u8> {
    read::<1>(reader).map(|[byte]| byte)
}

fn read<const N: usize>(reader: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    reader.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// Of a whole file, with its length; none when there is no such file.
fn checksum(path: &Path) -> io::Result<Option<(u128, u64)>> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut hash = Xxh3::new();
    let mut length = 0;
    let mut buffer = vec![0; 256 * 1024];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(Some((hash.digest128(), length))),
            n => {
                hash.update(&buffer[..n]);
                length += n as u64;
            }
        }
    }
}
