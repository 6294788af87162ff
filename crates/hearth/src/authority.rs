//! The mesh's certificate authority in a folder: `ca.pem`, which every node trusts, and
//! `ca.key.pem`, which can be any node.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use mesh::MeshCa;

/// What every node trusts.
pub(crate) const CERT_FILE: &str = "ca.pem";
const KEY_FILE: &str = "ca.key.pem";

/// The one that is there, or a new one.
///
/// # Errors
/// When what is there is none, or the folder cannot be written.
pub(crate) fn load_or_create(dir: &Path) -> anyhow::Result<MeshCa> {
    // The key is written last: without it there was none yet.
    if dir.join(KEY_FILE).exists() { load(dir) } else { create(dir) }
}

/// A new one, in the place of what may be there.
///
/// # Errors
/// When the folder cannot be written.
pub(crate) fn create(dir: &Path) -> anyhow::Result<MeshCa> {
    let ca = MeshCa::create().context("an authority for the mesh")?;
    let [cert, key] = files(dir);
    for (path, pem) in [(cert, ca.cert_pem()), (key, &ca.key_pem())] {
        write(&path, pem)?;
    }
    Ok(ca)
}

/// The one that is there.
///
/// # Errors
/// When there is none, or others may read its key.
pub(crate) fn load(dir: &Path) -> anyhow::Result<MeshCa> {
    let [cert, key] = files(dir);
    let read = |path: &Path| match fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            bail!(
                "no authority in {}: make one with `hearth admin ca init --dir {}`",
                dir.display(),
                dir.display()
            )
        }
        read => read.with_context(|| format!("cannot read {}", path.display())),
    };
    let pems = (read(&cert)?, read(&key)?);
    refuse_exposed(&key)?;
    MeshCa::load(&pems.0, &pems.1).with_context(|| format!("the authority in {}", dir.display()))
}

/// Whether there is one, or a part of one.
pub(crate) fn is_there(dir: &Path) -> Option<PathBuf> {
    files(dir).into_iter().find(|path| path.exists())
}

/// The certificate and the key.
pub(crate) fn files(dir: &Path) -> [PathBuf; 2] {
    [CERT_FILE, KEY_FILE].map(|file| dir.join(file))
}

/// Whole, and for its owner alone.
///
/// # Errors
/// When the folder cannot be written.
pub(crate) fn write(path: &Path, pem: &str) -> anyhow::Result<()> {
    auth::private::replace(path, pem.as_bytes())
        .with_context(|| format!("cannot write {}", path.display()))
}

/// A private key is nobody else's.
///
/// # Errors
/// When others may read the file, or it is not there.
pub(crate) fn refuse_exposed(key: &Path) -> anyhow::Result<()> {
    let name = key.display();
    if auth::private::is_exposed(key).with_context(|| format!("cannot read {name}"))? {
        bail!("{name}: others may read this key; run chmod 600 on it");
    }
    Ok(())
}
