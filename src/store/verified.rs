//! Whether an artifact is what was committed.
//!
//! Looking one up compares each file's size, time of change and inode with those it had when its bytes were last held
//! against the manifest's digests; only where they differ are the bytes read. Before a stage consumes an artifact, and
//! by `bam verify`, they are read in any case.

use std::cell::{OnceCell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::Result;
use bam_contract::digest::{Digest, Fingerprint};
use bam_contract::fault::Fault;
use bam_contract::manifest::Manifest;

use super::commit::files_in;
use super::{Found, LOG, MANIFEST, Store, read_manifest};
use crate::fingerprint::Stamp;

const FILE: &str = "verified.json";
/// Stands for a folder itself among its files' stamps.
const FOLDER: &str = ".";

/// Stamps of an artifact's files, when their bytes were last known to be right, and of the manifest that said so.
pub(crate) type Stamps = BTreeMap<String, Stamp>;

/// What is remembered from call to call; a memory that can't be read is an empty one.
#[derive(Debug, Default)]
pub(super) struct Verified {
    stamps: OnceCell<RefCell<BTreeMap<Fingerprint, Stamps>>>,
    /// What came, and what went, since it was last saved.
    fresh: RefCell<BTreeMap<Fingerprint, Option<Stamps>>>,
}

impl Verified {
    fn stamps(&self, root: &Path) -> &RefCell<BTreeMap<Fingerprint, Stamps>> {
        self.stamps.get_or_init(|| RefCell::new(read(root)))
    }

    fn insert(&self, root: &Path, fingerprint: Fingerprint, stamps: Stamps) {
        self.stamps(root).borrow_mut().insert(fingerprint, stamps.clone());
        self.fresh.borrow_mut().insert(fingerprint, Some(stamps));
    }

    fn remove(&self, root: &Path, fingerprint: Fingerprint) {
        if self.stamps(root).borrow_mut().remove(&fingerprint).is_some() {
            self.fresh.borrow_mut().insert(fingerprint, None);
        }
    }
}

fn read(root: &Path) -> BTreeMap<Fingerprint, Stamps> {
    fs::read(root.join(FILE)).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
}

impl Store {
    /// Looks an artifact up.
    pub(crate) fn find(&self, kind: &str, fingerprint: Fingerprint) -> Result<Found> {
        self.look(kind, fingerprint, false)
    }

    /// Paths of an artifact's files; none if it isn't there.
    pub(crate) fn files_of(&self, kind: &str, fingerprint: Fingerprint) -> Vec<PathBuf> {
        let folder = self.folder(kind, fingerprint);
        let manifest = read_manifest(&folder).ok();
        manifest.into_iter().flat_map(|manifest| manifest.files.into_keys()).map(|name| folder.join(name)).collect()
    }

    /// Looks an artifact up and reads all its bytes.
    pub(crate) fn verify(&self, kind: &str, fingerprint: Fingerprint) -> Result<Found> {
        self.look(kind, fingerprint, true)
    }

    fn look(&self, kind: &str, fingerprint: Fingerprint, read_all: bool) -> Result<Found> {
        let folder = self.folder(kind, fingerprint);
        let manifest = match read_manifest(&folder) {
            Ok(manifest) => manifest,
            Err(_) if matches!(folder.try_exists(), Ok(false)) => return Ok(Found::Absent),
            Err(error) if is_denied(&error) => return Err(self.denied(&folder, &error)),
            Err(error) => return Ok(Found::Damaged(format!("{error:#}"))),
        };
        if let Some(mistake) = manifest.mistake(fingerprint) {
            return Ok(Found::Damaged(format!("`{MANIFEST}` {mistake}")));
        }
        let stamp_of = |path: &Path| fs::metadata(path).map(|metadata| Stamp::of(&metadata)).ok();
        let of_manifest = stamp_of(&folder.join(MANIFEST));
        let of_folders: Stamps = folders_of(&manifest)
            .into_iter()
            .filter_map(|inside| Some((inside.join(FOLDER).to_str()?.to_owned(), stamp_of(&folder.join(inside))?)))
            .collect();
        let known = self.verified.stamps(&self.root).borrow().get(&fingerprint).cloned();
        // By another manifest than the one they were held against, nothing is known of the files.
        let is_same = |known: &Stamps| known.get(MANIFEST) == of_manifest.as_ref();
        let known = known.filter(|known| !read_all && is_same(known)).unwrap_or_default();
        // A folder changes when something is put into it.
        let is_listed = of_folders.iter().all(|(name, stamp)| known.get(name) == Some(stamp));
        let held = if is_listed { Ok(()) } else { no_more_than(&folder, &manifest) };
        let held = held.and_then(|()| held_against(&folder, &manifest, &known)).map(|mut found| {
            found.extend(of_manifest.map(|stamp| (MANIFEST.to_owned(), stamp)));
            found.extend(of_folders);
            found
        });
        match held {
            Ok(found) if found == known => {}
            Ok(found) => self.verified.insert(&self.root, fingerprint, found),
            Err(Wrong::Denied(error)) => return Err(self.denied(&folder, &error)),
            Err(Wrong::Damaged(how)) => {
                // It is read again next time, even if its stamps look right.
                self.verified.remove(&self.root, fingerprint);
                return Ok(Found::Damaged(how));
            }
        }
        Ok(Found::Sound(Box::new(manifest)))
    }

    fn denied(&self, folder: &Path, error: &anyhow::Error) -> anyhow::Error {
        let message = format!("`{}` cannot be read: {error:#}", self.shown(folder).display());
        Fault::new(
            message,
            "give the user that runs `bam` the right to read it; nothing is wrong with it as far as is known",
        )
        .into()
    }

    /// Notes an artifact whose digests were just taken.
    pub(crate) fn committed(&self, fingerprint: Fingerprint, stamps: Stamps) {
        self.verified.insert(&self.root, fingerprint, stamps);
    }

    /// Remembers what was verified, beside what others have verified meanwhile, where that can be written: it only spares
    /// work.
    pub(crate) fn save_verified(&self) {
        let fresh = std::mem::take(&mut *self.verified.fresh.borrow_mut());
        if fresh.is_empty() {
            return;
        }
        let mut all = read(&self.root);
        for (fingerprint, stamps) in fresh {
            match stamps {
                Some(stamps) => drop(all.insert(fingerprint, stamps)),
                None => drop(all.remove(&fingerprint)),
            }
        }
        _ = self.write(FILE, &serde_json::to_vec(&all).expect("stamps are plain data"));
    }

    /// Forgets an artifact that is no longer there.
    pub(super) fn forget_verified(&self, fingerprint: Fingerprint) {
        self.verified.remove(&self.root, fingerprint);
    }
}

/// Why an artifact can't be used.
enum Wrong {
    Damaged(String),
    /// It may be as sound as can be.
    Denied(anyhow::Error),
}

impl Wrong {
    fn of(name: &str, error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::PermissionDenied => Self::Denied(anyhow::Error::from(error).context(format!("`{name}`"))),
            io::ErrorKind::NotFound => Self::Damaged(format!("`{name}` is gone")),
            _ => Self::Damaged(format!("`{name}` can't be read: {error}")),
        }
    }
}

fn is_denied(error: &anyhow::Error) -> bool {
    let is_denied = |error: &io::Error| error.kind() == io::ErrorKind::PermissionDenied;
    error.downcast_ref().is_some_and(is_denied) || error.root_cause().downcast_ref().is_some_and(is_denied)
}

/// The folders that hold an artifact's files, from its own.
fn folders_of(manifest: &Manifest) -> BTreeSet<PathBuf> {
    let above = manifest.files.keys().flat_map(|name| Path::new(name).ancestors().skip(1).map(Path::to_owned));
    above.chain([PathBuf::new()]).collect()
}

/// A stage that reads all that is in a folder would read what was added to it.
fn no_more_than(folder: &Path, manifest: &Manifest) -> Result<(), Wrong> {
    let wrong = |error: anyhow::Error| {
        if is_denied(&error) { Wrong::Denied(error) } else { Wrong::Damaged(format!("{error:#}")) }
    };
    let names = files_in(folder).map_err(wrong)?;
    let is_own = |name: &String| manifest.files.contains_key(name) || [MANIFEST, LOG].contains(&name.as_str());
    match names.iter().find(|name| !is_own(name)) {
        Some(added) => Err(Wrong::Damaged(format!("`{added}` was added to it"))),
        None => Ok(()),
    }
}

/// Stamps of an artifact's files, whose bytes are right by what is known or by their digests; or what is wrong.
fn held_against(folder: &Path, manifest: &Manifest, known: &Stamps) -> Result<Stamps, Wrong> {
    let mut stamps = BTreeMap::new();
    for (name, entry) in &manifest.files {
        let path = folder.join(name);
        let metadata = fs::metadata(&path).map_err(|error| Wrong::of(name, error))?;
        if metadata.len() != entry.size_bytes {
            let how = format!("`{name}` has {} bytes, not {}", metadata.len(), entry.size_bytes);
            return Err(Wrong::Damaged(how));
        }
        let stamp = Stamp::of(&metadata);
        if known.get(name) != Some(&stamp) {
            let digest = Digest::of_file(&path).map_err(|error| Wrong::of(name, error))?;
            if digest != entry.digest {
                return Err(Wrong::Damaged(format!("the bytes of `{name}` have changed")));
            }
        }
        stamps.insert(name.clone(), stamp);
    }
    Ok(stamps)
}
