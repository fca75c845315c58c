//! Whether a file is the one that the hub has: the cache keeps each under its checksum, which is Git's name of a small
//! file, and the SHA-256 of a large one.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::Path;

use anyhow::{Context, Result};
use bam_contract::fault::Fault;
use sha1::Sha1;
use sha2::{Digest, Sha256};

use super::reference::is_hexadecimal;

/// The checksum of a file in the cache; `None` where it doesn't lie under one.
pub(crate) fn checksum_of(path: &Path) -> Option<String> {
    let blob = fs::canonicalize(path).ok()?;
    let name = blob.file_name()?.to_str()?;
    let is_checksum = matches!(name.len(), 40 | 64) && is_hexadecimal(name);
    (is_checksum && blob.parent()?.ends_with("blobs")).then(|| name.to_owned())
}

/// Reads a file and holds it against its checksum.
///
/// # Errors
/// When they differ.
pub(crate) fn check(path: &Path, checksum: &str) -> Result<()> {
    let found = hash(path, checksum.len()).with_context(|| format!("reading `{}`", path.display()))?;
    if found == checksum {
        return Ok(());
    }
    let blob = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let message = format!("`{}` isn't the file that the hub has: its hash is {found}, not {checksum}", path.display());
    Err(Fault::new(message, format!("remove `{}`, and the next run fetches it again", blob.display())).into())
}

fn hash(path: &Path, digits: usize) -> io::Result<String> {
    let mut file = File::open(path)?;
    if digits == 64 {
        return feed(&mut file, Sha256::new());
    }
    let header = format!("blob {}\0", file.metadata()?.len());
    feed(&mut file, Sha1::new_with_prefix(header))
}

fn feed(file: &mut File, mut hasher: impl Digest) -> io::Result<String> {
    let mut piece = vec![0; 1 << 20];
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()),
            read => hasher.update(&piece[..read]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_of_checksums() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = folder.path().join("blobs");
        fs::create_dir(&blobs).unwrap();
        // `printf 'hello\n' | git hash-object --stdin`, and `| sha256sum`.
        let [git, sha256] = [
            "ce013625030ba8dba906f756967f9e9ca394464a",
            "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03",
        ];
        for (checksum, file) in [(git, "small"), (sha256, "large")] {
            fs::write(blobs.join(checksum), "hello\n").unwrap();
            let link = folder.path().join(file);
            std::os::unix::fs::symlink(blobs.join(checksum), &link).unwrap();
            assert_eq!(checksum_of(&link).as_deref(), Some(checksum));
            check(&link, checksum).unwrap();
            fs::write(blobs.join(checksum), "hullo\n").unwrap();
            let error = check(&link, checksum).unwrap_err().to_string();
            assert!(error.contains("isn't the file that the hub has"), "{error}");
        }
        fs::write(folder.path().join("plain"), "hello\n").unwrap();
        assert_eq!(checksum_of(&folder.path().join("plain")), None);
    }
}
