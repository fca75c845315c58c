//! The key of a stage, and digests of files outside the store, remembered from call to call.

use std::collections::BTreeMap;
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use bam_contract::digest::Digest;
use bam_contract::external::External;
use bam_contract::manifest::Key;
use serde::{Deserialize, Serialize};

use crate::hub;
use crate::pipeline::Stage;

/// The key of a stage whose inputs have this content, in the order of its edges.
pub(crate) fn key(stage: &Stage, contents: &[Digest], digests: &mut Digests) -> Result<Key> {
    let kind = stage.spec.kind();
    let external = stage.externals.iter().map(|file| Ok((file.slot.clone(), digests.of_external(file)?)));
    Ok(Key {
        kind: kind.name.to_owned(),
        version: kind.version,
        params: stage.spec.key_params(),
        inputs: stage.inputs.iter().map(|edge| edge.slot.clone()).zip(contents.iter().copied()).collect(),
        external: external.collect::<Result<BTreeMap<_, _>>>()?,
    })
}

/// Digests of files, by what the file system says of them.
///
/// A file written again within its clock's grain keeps its time of change; so a file that young is read each time.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Digests {
    files: BTreeMap<PathBuf, Entry>,
    /// Those that are new since they were last saved.
    #[serde(skip)]
    fresh: BTreeMap<PathBuf, Entry>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Entry {
    #[serde(flatten)]
    stamp: Stamp,
    digest: Digest,
}

/// What the file system says of a file; a change of its bytes changes it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Stamp {
    size_bytes: u64,
    modified_ns: i64,
    /// The kernel sets it with each change, of the bytes or of `modified_ns`; no program can set it.
    changed_ns: i64,
    inode: u64,
}

impl Stamp {
    /// Whether another host may see the same file: by what all of them see alike.
    pub(crate) fn is_alike(&self, other: &Self) -> bool {
        (self.size_bytes, self.modified_ns) == (other.size_bytes, other.modified_ns)
    }
}

/// Coarser than the time stamps of any file system in use (FAT counts two seconds).
const CLOCK_GRAIN: Duration = Duration::from_secs(2);

impl Digests {
    /// What an earlier call remembered; a cache that cannot be read is an empty one.
    pub(crate) fn load(path: &Path) -> Self {
        fs::read(path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
    }

    /// What is new since the last time, as JSON with what others have saved at `path` meanwhile; nothing where nothing is.
    pub(crate) fn take_fresh(&mut self, path: &Path) -> Option<Vec<u8>> {
        let fresh = std::mem::take(&mut self.fresh);
        (!fresh.is_empty()).then(|| {
            let mut all = Self::load(path);
            all.files.extend(fresh);
            serde_json::to_vec(&all).expect("digests are plain data")
        })
    }

    /// Digest of the bytes of a file outside the store.
    ///
    /// # Errors
    /// When it comes from a hub, is read for the first time, and isn't what the hub has.
    pub(crate) fn of_external(&mut self, file: &External) -> Result<Digest> {
        self.of(&file.path, file.checksum.as_deref())
    }

    fn of(&mut self, path: &Path, checksum: Option<&str>) -> Result<Digest> {
        let reading = || format!("reading `{}`", path.display());
        let metadata = fs::metadata(path).with_context(reading)?;
        let absolute = std::path::absolute(path).with_context(reading)?;
        let stamp = Stamp::of(&metadata);
        if let Some(entry) = self.files.get(&absolute).filter(|entry| entry.stamp == stamp) {
            return Ok(entry.digest);
        }
        checksum.map_or(Ok(()), |checksum| hub::check(path, checksum))?;
        let now = SystemTime::now();
        let digest = Digest::of_file(path).with_context(reading)?;
        // A time of modification may be set to one that is yet to come.
        let changed = UNIX_EPOCH + Duration::from_secs(metadata.ctime().unsigned_abs());
        let age = metadata.modified().ok().and_then(|modified| now.duration_since(modified.min(changed)).ok());
        if age.is_some_and(|age| age > CLOCK_GRAIN) {
            let entry = Entry { stamp, digest };
            self.files.insert(absolute.clone(), entry.clone());
            self.fresh.insert(absolute, entry);
        }
        Ok(digest)
    }
}

impl Stamp {
    pub(crate) fn of(metadata: &Metadata) -> Self {
        let ns = |secs: i64, ns: i64| secs * 1_000_000_000 + ns;
        Self {
            size_bytes: metadata.len(),
            modified_ns: ns(metadata.mtime(), metadata.mtime_nsec()),
            changed_ns: ns(metadata.ctime(), metadata.ctime_nsec()),
            inode: metadata.ino(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_young_file_is_read_each_time_and_an_old_one_is_remembered() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, "one").unwrap();
        let cache = dir.path().join("cache");
        let mut digests = Digests::default();
        assert_eq!(digests.of(&path, None).unwrap(), Digest::of(b"one"));
        assert!(digests.take_fresh(&cache).is_none());

        let old = SystemTime::now() - Duration::from_mins(1);
        fs::File::options().write(true).open(&path).unwrap().set_modified(old).unwrap();
        digests.of(&path, None).unwrap();
        fs::write(&cache, digests.take_fresh(&cache).unwrap()).unwrap();
        assert!(digests.take_fresh(&cache).is_none());
        let mut digests = Digests::load(&cache);
        digests.files.values_mut().for_each(|entry| entry.digest = Digest::of(b"remembered"));
        assert_eq!(digests.of(&path, None).unwrap(), Digest::of(b"remembered"));

        fs::write(&path, "two").unwrap();
        assert_eq!(digests.of(&path, None).unwrap(), Digest::of(b"two"));
    }

    #[test]
    fn what_others_remembered_meanwhile_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let cache = dir.path().join("cache");
        for name in ["one", "two"] {
            let file = fs::File::create(dir.path().join(name)).unwrap();
            file.set_modified(SystemTime::now() - Duration::from_mins(1)).unwrap();
        }
        // Both have the same beginning; the file's time of change is as young as the test.
        let mut both = [Digests::load(&cache), Digests::load(&cache)];
        for (digests, name) in both.iter_mut().zip(["one", "two"]) {
            let path = dir.path().join(name);
            let stamp = Stamp::of(&fs::metadata(&path).unwrap());
            digests.fresh.insert(path, Entry { stamp, digest: Digest::of(b"") });
        }
        for digests in &mut both {
            fs::write(&cache, digests.take_fresh(&cache).unwrap()).unwrap();
        }
        assert_eq!(Digests::load(&cache).files.len(), 2);
    }
}
