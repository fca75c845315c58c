//! Whether an artifact is what was committed.
//!
//! Looking one up compares each file's size, time of change and inode with those it had when its bytes were last held
//! against the manifest's digests; only where they differ are the bytes read. Before a stage consumes an artifact, and
//! by `bam verify`, they are read in any case.

use std::cell::{OnceCell, RefCell};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;
use bam_contract::digest::{Digest, Fingerprint};
use bam_contract::manifest::Manifest;

use super::commit::files_in;
use super::{Found, LOG, MANIFEST, Store, read_manifest};
use crate::fingerprint::Stamp;

const FILE: &str = "verified.json";

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
    pub(crate) fn find(&self, kind: &str, fingerprint: Fingerprint) -> Found {
        self.look(kind, fingerprint, false)
    }

    /// Paths of an artifact's files; none if it isn't there.
    pub(crate) fn files_of(&self, kind: &str, fingerprint: Fingerprint) -> Vec<PathBuf> {
        let folder = self.folder(kind, fingerprint);
        let manifest = read_manifest(&folder).ok();
        manifest.into_iter().flat_map(|manifest| manifest.files.into_keys()).map(|name| folder.join(name)).collect()
    }

    /// Looks an artifact up and reads all its bytes.
    pub(crate) fn verify(&self, kind: &str, fingerprint: Fingerprint) -> Found {
        self.look(kind, fingerprint, true)
    }

    fn look(&self, kind: &str, fingerprint: Fingerprint, read_all: bool) -> Found {
        let folder = self.folder(kind, fingerprint);
        let manifest = match read_manifest(&folder) {
            Ok(manifest) => manifest,
            Err(_) if matches!(folder.try_exists(), Ok(false)) => return Found::Absent,
            Err(error) => return Found::Damaged(format!("{error:#}")),
        };
        if let Some(mistake) = manifest.mistake(fingerprint) {
            return Found::Damaged(format!("`{MANIFEST}` {mistake}"));
        }
        let own = fs::metadata(folder.join(MANIFEST)).map(|metadata| Stamp::of(&metadata)).ok();
        let known = self.verified.stamps(&self.root).borrow().get(&fingerprint).cloned();
        // By another manifest than the one they were held against, nothing is known of the files.
        let is_same = |known: &Stamps| known.get(MANIFEST) == own.as_ref();
        let known = known.filter(|known| !read_all && is_same(known)).unwrap_or_default();
        let held = if known.is_empty() { no_more_than(&folder, &manifest) } else { Ok(()) };
        let held = held.and_then(|()| held_against(&folder, &manifest, &known)).map(|mut found| {
            found.extend(own.map(|own| (MANIFEST.to_owned(), own)));
            found
        });
        match held {
            Ok(found) if found == known => {}
            Ok(found) => self.verified.insert(&self.root, fingerprint, found),
            Err(how) => {
                // It is read again next time, even if its stamps look right.
                self.verified.remove(&self.root, fingerprint);
                return Found::Damaged(how);
            }
        }
        Found::Sound(Box::new(manifest))
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

/// A stage that reads all that is in a folder would read what was added to it.
fn no_more_than(folder: &Path, manifest: &Manifest) -> Result<(), String> {
    let names = files_in(folder).map_err(|error| format!("{error:#}"))?;
    let is_own = |name: &String| manifest.files.contains_key(name) || [MANIFEST, LOG].contains(&name.as_str());
    match names.iter().find(|name| !is_own(name)) {
        Some(added) => Err(format!("`{added}` was added to it")),
        None => Ok(()),
    }
}

/// Stamps of an artifact's files, whose bytes are right by what is known or by their digests; or what is wrong.
fn held_against(folder: &Path, manifest: &Manifest, known: &Stamps) -> Result<Stamps, String> {
    let mut stamps = BTreeMap::new();
    for (name, entry) in &manifest.files {
        let path = folder.join(name);
        let metadata = fs::metadata(&path).map_err(|_| format!("`{name}` is gone"))?;
        if metadata.len() != entry.size_bytes {
            return Err(format!("`{name}` has {} bytes, not {}", metadata.len(), entry.size_bytes));
        }
        let stamp = Stamp::of(&metadata);
        if known.get(name) != Some(&stamp) {
            let digest = Digest::of_file(&path).map_err(|error| format!("`{name}` can't be read: {error}"))?;
            if digest != entry.digest {
                return Err(format!("the bytes of `{name}` have changed"));
            }
        }
        stamps.insert(name.clone(), stamp);
    }
    Ok(stamps)
}
