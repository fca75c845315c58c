//! Taking out of the store what nobody needs.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use std::{fs, io};

use anyhow::{Context, Result};
use bam_contract::digest::Fingerprint;
use bam_contract::manifest::Manifest;

use super::attempts::ATTEMPTS;
use super::ended::{FAILED, STOPPED};
use super::owner::file_of;
use super::records::is_held;
use super::resume::NOTE;
use super::{Asked, LAST, LATEST, Owner, SAID, Store, read_manifest};

/// A small file that is younger may still be in the making.
const UNFINISHED: Duration = Duration::from_hours(1);

/// An artifact, as garbage collection sees it.
#[derive(Debug)]
pub(crate) struct Stored {
    pub(crate) manifest: Manifest,
    pub(crate) size_bytes: u64,
    /// When it was made, or last read by a stage.
    pub(crate) used: SystemTime,
}

/// Something beside the artifacts that can go.
#[derive(Debug)]
pub(crate) struct Leftover {
    pub(crate) path: PathBuf,
    pub(crate) size_bytes: u64,
    /// The lock that guards it, where there is one.
    fingerprint: Option<Fingerprint>,
}

/// A pipeline that wasn't named.
#[derive(Debug)]
pub(crate) struct Other {
    /// Its file, for messages.
    pub(crate) shown: String,
    pub(crate) is_there: bool,
    /// What its stages had last.
    pub(crate) had: BTreeSet<Fingerprint>,
}

impl Store {
    /// All artifacts, the one used longest ago first.
    pub(crate) fn by_use(&self) -> Vec<Stored> {
        let stored = |(folder, manifest): (PathBuf, Manifest)| {
            let made = UNIX_EPOCH + Duration::from_secs(manifest.provenance.finished_unix_secs);
            let lock = fs::metadata(self.root.join("locks").join(manifest.fingerprint.to_string()));
            let read = lock.and_then(|metadata| metadata.modified()).unwrap_or(UNIX_EPOCH);
            let size_bytes = Self::size_bytes(&folder, &manifest);
            Stored { size_bytes, used: made.max(read), manifest }
        };
        let mut all: Vec<Stored> = self.all().into_iter().map(stored).collect();
        all.sort_by_key(|stored| (stored.used, stored.manifest.fingerprint));
        all
    }

    /// Removes an artifact whole, unless someone makes or reads it; says whether it is gone.
    pub(crate) fn remove(&self, kind: &str, fingerprint: Fingerprint) -> Result<bool> {
        let Asked::Held(_lock) = self.lock(fingerprint)? else { return Ok(false) };
        self.take_away(kind, fingerprint)?;
        self.forget_verified(fingerprint);
        Ok(true)
    }

    /// What lies beside the artifacts and can go: states of stages that are done, artifacts without a manifest, and files that
    /// were being written by processes that are gone; and from before `since`, logs of what failed or was stopped, damaged artifacts, records of
    /// runs, attempts that were submitted to a cluster and what was printed there, and states of stages that are not done.
    pub(crate) fn leftovers(&self, since: Option<SystemTime>) -> Vec<Leftover> {
        let entries = |folder: &str| fs::read_dir(self.root.join(folder)).into_iter().flatten().flatten();
        let is_old = |path: &Path| since.is_some_and(|since| newest(path).is_some_and(|newest| newest < since));
        let mut leftovers = Vec::new();
        let mut add = |path: PathBuf, fingerprint| {
            leftovers.push(Leftover { size_bytes: size_of(&path), path, fingerprint });
        };
        let ended = [FAILED, STOPPED].into_iter().flat_map(|folder| self.owners_in(folder)).flat_map(below);
        let records = below(self.root.join("runs")).filter(|record| !is_held(record));
        let begins =
            |entry: &fs::DirEntry, with: &str| entry.file_name().as_encoded_bytes().starts_with(with.as_bytes());
        let said = entries(ATTEMPTS).filter(|entry| begins(entry, SAID)).map(|entry| entry.path());
        for path in ended.chain(below(self.root.join("damaged"))).chain(records).chain(said) {
            if is_old(&path) {
                add(path, None);
            }
        }
        for (folder, fingerprint) in self.cut_off() {
            add(folder, Some(fingerprint));
        }
        for (kind, fingerprint) in self.names() {
            let folder = self.folder(&kind, fingerprint);
            if read_manifest(&folder).is_err() {
                add(folder, Some(fingerprint));
            }
        }
        let files = entries(".").filter(|entry| begins(entry, ".tmp"));
        let links = self.owners_in(LAST).chain([self.root.join(LATEST)]).flat_map(below);
        let links = links.filter(|link| link.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b".")));
        for path in files.map(|entry| entry.path()).chain(links) {
            if changed(&path).is_some_and(|changed| changed < SystemTime::now() - UNFINISHED) {
                add(path, None);
            }
        }
        let submitted = self.submitted();
        for (folder, fingerprint) in &submitted {
            if is_old(folder) {
                add(folder.clone(), Some(*fingerprint));
            }
        }
        let is_submitted = |wanted| submitted.iter().any(|(folder, made)| *made == wanted && !is_old(folder));
        let made: Vec<Fingerprint> = self.all().into_iter().map(|(_, manifest)| manifest.fingerprint).collect();
        for entry in entries("resume") {
            let Some(fingerprint) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            let folder = entry.path();
            if !is_submitted(fingerprint) && (made.contains(&fingerprint) || is_old(&folder)) {
                add(folder, Some(fingerprint));
            }
        }
        leftovers
    }

    /// What lies beside the artifacts: what it is, how many there are, and their bytes.
    pub(crate) fn beside(&self) -> Vec<(&'static str, usize, u64)> {
        let all = |what, paths: Vec<PathBuf>| (what, paths.len(), paths.iter().map(|path| size_of(path)).sum());
        // One that has begun has a note there, and no state yet.
        let has_state = |folder: &PathBuf| below(folder.clone()).any(|path| path.file_name() != Some(OsStr::new(NOTE)));
        let ended = [FAILED, STOPPED].into_iter().flat_map(|folder| self.owners_in(folder)).flat_map(below);
        let kinds = [
            all("unfinished state", below(self.root.join("resume")).filter(has_state).collect()),
            all("cut-off attempt", self.cut_off().map(|(folder, _)| folder).collect()),
            all("damaged artifact", below(self.root.join("damaged")).collect()),
            all("kept log", ended.collect()),
            all("run record", below(self.root.join("runs")).collect()),
        ];
        kinds.into_iter().filter(|(_, count, _)| *count > 0).collect()
    }

    /// Removes such a thing, unless it is in use; says whether it is gone.
    pub(crate) fn remove_leftover(&self, leftover: &Leftover) -> Result<bool> {
        let _lock = match leftover.fingerprint.map(|fingerprint| self.lock(fingerprint)).transpose()? {
            Some(Asked::Busy(_)) => return Ok(false),
            held => held,
        };
        let path = &leftover.path;
        if leftover.fingerprint.is_some() && path.starts_with(self.root.join(ATTEMPTS)) {
            let ending = || format!("removing `{}`", self.shown(path).display());
            self.end_attempt(path).with_context(ending)?;
            return Ok(true);
        }
        let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
        match removed {
            // Another was quicker.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
            removed => {
                removed.with_context(|| format!("removing `{}`", self.shown(path).display()))?;
                Ok(true)
            }
        }
    }

    /// Whether something of that leftover is in use.
    pub(crate) fn is_left_in_use(&self, leftover: &Leftover) -> bool {
        leftover.fingerprint.is_some_and(|fingerprint| self.is_in_use(fingerprint))
    }

    /// Removes names of artifacts that are gone.
    pub(crate) fn prune_latest(&self) {
        for link in self.owners_in(LAST).flat_map(below).chain(below(self.root.join(LATEST))) {
            if !link.exists() {
                _ = fs::remove_file(link);
            }
        }
        // One that holds something stays.
        self.owners_in(LAST).for_each(|folder| _ = fs::remove_dir(folder));
    }

    /// Pipelines, as far as the store knows them, that are not among those named.
    pub(crate) fn others(&self, named: &[Owner]) -> Vec<Other> {
        let home = self.root.parent().unwrap_or(&self.root);
        let target = |link: PathBuf| fs::read_link(link).ok()?.file_name()?.to_str()?.parse().ok();
        let of_folder = |folder: PathBuf| {
            let name = folder.file_name()?.to_str()?.to_owned();
            let had = below(folder).filter_map(target).collect();
            let file = file_of(&name);
            // Of one whose path isn't known it isn't known either.
            let is_there = file.as_ref().is_none_or(|file| home.join(file).exists());
            let shown = file.map_or_else(|| name.clone(), |file| file.display().to_string());
            named.iter().all(|owner| owner.name() != name).then_some(Other { shown, is_there, had })
        };
        let mut others: Vec<Other> = self.owners_in(LAST).filter_map(of_folder).collect();
        others.sort_by(|a, b| a.shown.cmp(&b.shown));
        others
    }
}

fn below(folder: PathBuf) -> impl Iterator<Item = PathBuf> {
    fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path())
}

/// When a file, or anything below a folder, was last changed.
fn newest(path: &Path) -> Option<SystemTime> {
    let own = changed(path);
    let is_folder = fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_dir());
    let within = is_folder.then(|| below(path.to_owned())).into_iter().flatten().filter_map(|path| newest(&path));
    own.into_iter().chain(within).max()
}

fn changed(path: &Path) -> Option<SystemTime> {
    fs::symlink_metadata(path).ok()?.modified().ok()
}

/// Bytes of a file, or of all files below a folder.
fn size_of(path: &Path) -> u64 {
    let Ok(metadata) = fs::symlink_metadata(path) else { return 0 };
    if !metadata.is_dir() {
        return metadata.len();
    }
    fs::read_dir(path).into_iter().flatten().flatten().map(|entry| size_of(&entry.path())).sum()
}
