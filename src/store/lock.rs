//! Locks by fingerprint, so that two runs share work and nothing is removed that is in use.
//!
//! A stage holds its own fingerprint alone while it is made, and each of its inputs together with other readers. The
//! locks are the kernel's (`flock`): they end with the process that holds them, however it ends, so none can be stale.

use std::fs::{self, File, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, Result};
use bam_contract::digest::Fingerprint;

use super::Store;

/// Held until it is dropped.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

/// What came of asking for a lock, or for several.
#[derive(Debug)]
pub(crate) enum Asked<T = Lock> {
    Held(T),
    /// By whom, as far as is known: `process 4711 on host`.
    Busy(String),
}

impl Store {
    /// Locks a fingerprint for the one who makes it, or removes it.
    pub(crate) fn lock(&self, fingerprint: Fingerprint) -> Result<Asked> {
        let (path, mut file) = self.lock_file(fingerprint)?;
        match file.try_lock() {
            Ok(()) => {
                // For messages alone: who can't write here may lock all the same.
                _ = file.set_modified(SystemTime::now());
                let holder = format!("process {} on {}\n", std::process::id(), crate::machine::host());
                _ = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| file.write_all(holder.as_bytes()));
                Ok(Asked::Held(Lock { _file: file }))
            }
            Err(TryLockError::WouldBlock) => Ok(Asked::Busy(holder_of(file))),
            Err(TryLockError::Error(error)) => Err(error).with_context(|| self.locking(&path)),
        }
    }

    /// Locks a fingerprint for one of those who read it.
    pub(crate) fn share(&self, fingerprint: Fingerprint) -> Result<Asked> {
        let (path, file) = self.lock_file(fingerprint)?;
        match file.try_lock_shared() {
            Ok(()) => {
                // When an artifact was last used is when its lock was.
                _ = file.set_modified(SystemTime::now());
                Ok(Asked::Held(Lock { _file: file }))
            }
            Err(TryLockError::WouldBlock) => Ok(Asked::Busy(holder_of(file))),
            Err(TryLockError::Error(error)) => Err(error).with_context(|| self.locking(&path)),
        }
    }

    fn lock_file(&self, fingerprint: Fingerprint) -> Result<(PathBuf, File)> {
        let path = self.folder_in_root("locks")?.join(fingerprint.to_string());
        let file = File::options().create(true).truncate(false).read(true).write(true).open(&path);
        Ok((path.clone(), file.with_context(|| self.locking(&path))?))
    }

    fn locking(&self, path: &Path) -> String {
        format!("locking `{}`", self.shown(path).display())
    }

    /// Removes what was being made by processes that are gone.
    pub(crate) fn sweep(&self) {
        let entries = |folder: &str| fs::read_dir(self.root.join(folder)).into_iter().flatten().flatten();
        for entry in entries("tmp") {
            let name = entry.file_name();
            let Some(fingerprint) = name.to_str().and_then(|name| name.parse().ok()) else { continue };
            // The lock is held while it is removed, so that nobody begins in the folder meanwhile.
            if let Ok(Asked::Held(_lock)) = self.lock(fingerprint) {
                _ = fs::remove_dir_all(entry.path());
            }
        }
    }
}

/// Who wrote into a lock file last.
fn holder_of(mut file: File) -> String {
    let mut holder = String::new();
    _ = file.read_to_string(&mut holder);
    let holder = holder.trim();
    if holder.is_empty() { "another process".to_owned() } else { holder.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_makes_many_read() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let fingerprint = Fingerprint::of("key");
        let held = store.lock(fingerprint).unwrap();
        assert!(matches!(held, Asked::Held(_)));
        let Asked::Busy(holder) = store.lock(fingerprint).unwrap() else { panic!("held twice") };
        assert!(holder.starts_with(&format!("process {} on ", std::process::id())), "{holder}");
        assert!(matches!(store.lock(Fingerprint::of("other")).unwrap(), Asked::Held(_)));
        assert!(matches!(store.share(fingerprint).unwrap(), Asked::Busy(_)), "read while it is made");
        drop(held);
        let readers = [store.share(fingerprint).unwrap(), store.share(fingerprint).unwrap()];
        assert!(readers.iter().all(|reader| matches!(reader, Asked::Held(_))));
        assert!(matches!(store.lock(fingerprint).unwrap(), Asked::Busy(_)));
        drop(readers);
        assert!(matches!(store.lock(fingerprint).unwrap(), Asked::Held(_)));
    }
}
