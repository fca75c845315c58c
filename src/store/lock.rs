//! Locks by fingerprint, so that two runs share work and nothing is removed that is in use.
//!
//! A stage holds its own fingerprint alone while it is made, and each of its inputs together with other readers. The
//! locks are the kernel's (`flock`): they end with the process that holds them, however it ends, so none can be stale. Between
//! hosts, where they may not hold, who makes an artifact has a lease too.

use std::collections::BTreeSet;
use std::fs::{self, File, Metadata, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, Result};
use bam_contract::digest::Fingerprint;
use bam_contract::fault::Fault;

use super::Store;
use super::lease::{self, Lease, Leased};

/// Held until it is dropped.
#[derive(Debug)]
pub(crate) struct Lock {
    file: File,
    /// Of one who makes it.
    lease: Option<Lease>,
}

impl Drop for Lock {
    /// Not by closing the file alone: a child that another thread begins at this very moment has it open till it becomes its program.
    fn drop(&mut self) {
        // First, while nobody else of this host can take it.
        self.lease = None;
        _ = self.file.unlock();
    }
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
        let mut asked = self.ask(fingerprint, File::try_lock)?;
        if let Asked::Held(Lock { file, lease }) = &mut asked {
            match Lease::take(&self.lock_path(fingerprint)) {
                Ok(Leased::Held(taken)) => *lease = Some(taken),
                Ok(Leased::Busy(holder)) => return Ok(Asked::Busy(holder)),
                // Who can't write beside a lock may lock all the same.
                Err(_) => {}
            }
            // For messages alone: who can't write here may lock all the same.
            let (holder, mut file) = (own_name() + "\n", &*file);
            _ = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| file.write_all(holder.as_bytes()));
        }
        Ok(asked)
    }

    /// Locks a fingerprint for one of those who read it.
    pub(crate) fn share(&self, fingerprint: Fingerprint) -> Result<Asked> {
        if let Some(holder) = lease::elsewhere(&self.lock_path(fingerprint)) {
            return Ok(Asked::Busy(holder));
        }
        self.ask(fingerprint, File::try_lock_shared)
    }

    fn ask(&self, fingerprint: Fingerprint, take: fn(&File) -> Result<(), TryLockError>) -> Result<Asked> {
        self.folder_in_root("locks")?;
        let path = self.lock_path(fingerprint);
        let locking = || {
            let hint = "what the store holds can be used without the right to write there; `--artifacts DIR` names another \
                        for what can't";
            Fault::new(format!("locking `{}`", self.shown(&path).display()), hint)
        };
        loop {
            let file = File::options().create(true).truncate(false).read(true).write(true).open(&path);
            let file = file.with_context(locking)?;
            match take(&file) {
                // Unless garbage collection has removed the file between the two, and others lock another of that name.
                Ok(()) if is_at(&file, &path) => {
                    // When an artifact was last used is when its lock was.
                    _ = file.set_modified(SystemTime::now());
                    return Ok(Asked::Held(Lock { file, lease: None }));
                }
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Ok(Asked::Busy(holder_of(file))),
                Err(TryLockError::Error(error)) => return Err(error).with_context(locking),
            }
        }
    }

    /// Whether someone makes this artifact at the moment.
    pub(crate) fn is_locked(&self, fingerprint: Fingerprint) -> bool {
        let file = File::open(self.lock_path(fingerprint));
        file.is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
            || lease::elsewhere(&self.lock_path(fingerprint)).is_some()
    }

    /// Whether someone makes or reads this artifact at the moment.
    pub(crate) fn is_in_use(&self, fingerprint: Fingerprint) -> bool {
        let file = File::open(self.lock_path(fingerprint));
        file.is_ok_and(|file| matches!(file.try_lock(), Err(TryLockError::WouldBlock)))
            || lease::elsewhere(&self.lock_path(fingerprint)).is_some()
    }

    /// Removes the locks of artifacts that are not in the store, and that nobody holds.
    pub(crate) fn prune_locks(&self) {
        let stored: BTreeSet<Fingerprint> = self.names().into_iter().map(|(_, fingerprint)| fingerprint).collect();
        for entry in fs::read_dir(self.root.join("locks")).into_iter().flatten().flatten() {
            let Some(fingerprint) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            if !stored.contains(&fingerprint)
                && let Ok(Asked::Held(_lock)) = self.lock(fingerprint)
            {
                _ = fs::remove_file(entry.path());
            }
        }
    }

    fn lock_path(&self, fingerprint: Fingerprint) -> PathBuf {
        self.root.join("locks").join(fingerprint.to_string())
    }
}

fn is_at(file: &File, path: &Path) -> bool {
    let inode = |metadata: &Metadata| (metadata.dev(), metadata.ino());
    matches!((file.metadata(), fs::metadata(path)), (Ok(own), Ok(there)) if inode(&own) == inode(&there))
}

/// What this process is called as the holder of a lock.
pub(super) fn own_name() -> String {
    format!("process {} on {}", std::process::id(), crate::machine::host())
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

    #[test]
    fn locks_that_nobody_holds_can_go() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let [held, idle] = ["held", "idle"].map(Fingerprint::of);
        let _lock = store.lock(held).unwrap();
        drop(store.lock(idle).unwrap());
        store.prune_locks();
        assert_eq!([held, idle].map(|fingerprint| store.lock_path(fingerprint).exists()), [true, false]);
        assert!(matches!(store.lock(held).unwrap(), Asked::Busy(_)));
        assert!(matches!(store.lock(idle).unwrap(), Asked::Held(_)));
    }
}
