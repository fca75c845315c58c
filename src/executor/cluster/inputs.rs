//! What a job reads, made sure of on its node before the worker starts.
//!
//! Each input is held against its manifest's digests as this node sees it: a network file system may show another state, or other
//! bytes, than the login node had. Where the profile names a folder of the node's own disk, an input is brought there once for
//! all jobs of the node, and verified as it comes; that folder is a store like any other.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, bail, ensure};
use bam_contract::digest::Fingerprint;
use bam_contract::event::Event;
use bam_contract::fault::Fault;
use bam_contract::job::{Job, JobInput};
use bam_contract::manifest::Manifest;

use super::files::Files;
use crate::fingerprint::Stamp;
use crate::machine;
use crate::store::{Asked, Found, Lock, Store, read_manifest};

/// The folder within `scratch`, which may be anybody's, that is this program's own.
const FOLDER: &str = "inputs";
/// How long an artifact that isn't seen is waited for: clients of a network file system may know for a minute that it isn't there.
const UNSEEN: Duration = Duration::from_mins(2);
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// How long another job is waited for that brings the same.
const BUSY: Duration = Duration::from_mins(10);
const ASK_EVERY: Duration = Duration::from_millis(200);
/// What no job of the node has read for so long leaves its disk.
const UNUSED: Duration = Duration::from_hours(7 * 24);
/// Between two looks whether the job is to end.
const BLOCK_BYTES: u64 = 8 << 20;

/// Sound inputs, kept on the node's own disk for as long as this lives.
#[derive(Debug)]
pub(super) struct Inputs {
    /// What the worker is to be given, where it isn't what the engine wrote: the paths of the node's own.
    pub(super) placed: Option<Job>,
    _held: Vec<Lock>,
}

/// Makes sure of all that a job reads; `tell` hears why something is not brought to `scratch`.
///
/// # Errors
/// When an input is not, on this node, what was committed; or the job `is_signalled` to end.
pub(super) fn made_sure_of(
    files: &Files,
    scratch: Option<&Path>,
    is_signalled: &AtomicBool,
    mut tell: impl FnMut(Event),
) -> Result<Inputs> {
    let mut job = Job::read(&files.job())?;
    check_outside(files, &job)?;
    let scratch = match scratch.map(|folder| Store::open(&folder.join(FOLDER))).transpose() {
        Ok(store) => store,
        Err(error) => {
            tell(not_brought("inputs are", &error));
            None
        }
    };
    let mut held = Vec::new();
    for input in &mut job.inputs {
        let shared = Artifact::at(input, is_signalled)?;
        match scratch.as_ref().map(|store| shared.brought_to(store)).transpose() {
            Ok(Some((folder, lock))) => {
                input.path = folder;
                held.push(lock);
                continue;
            }
            Ok(None) => {}
            // If it is the input's fault, reading it in its place tells so.
            Err(error) => tell(not_brought(&format!("its input `{}` is", input.stage), &error)),
        }
        shared.hold_against_digests()?;
    }
    if let Some(store) = scratch {
        store.save_verified();
    }
    Ok(Inputs { placed: (!held.is_empty()).then_some(job), _held: held })
}

/// Whether the files that the job reads outside of the store are as the engine saw them, which may be days ago.
fn check_outside(files: &Files, job: &Job) -> Result<()> {
    let read: BTreeMap<PathBuf, Option<Stamp>> =
        fs::read(files.read()).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
    let is_outside = |path: &Path| !job.inputs.iter().any(|input| path.starts_with(&input.path));
    for (path, seen) in read.iter().filter(|(path, _)| is_outside(path)) {
        let now = fs::metadata(path).map(|metadata| Stamp::of(&metadata));
        match (seen, now) {
            (Some(seen), Ok(now)) if !seen.is_alike(&now) => {
                let message = format!("`{}` has changed since the job was submitted", path.display());
                return Err(Fault::new(message, "run again; the change is seen then").into());
            }
            (Some(_), Err(error)) => {
                let message = format!("`{}` can't be read on {}: {error}", path.display(), machine::host());
                let hint = "all that stages read must be seen by the nodes, at the same paths";
                return Err(Fault::new(message, hint).into());
            }
            _ => {}
        }
    }
    Ok(())
}

fn not_brought(what: &str, error: &anyhow::Error) -> Event {
    Event::Warning { text: format!("{what} read in the store, not on a disk of {}: {error:#}", machine::host()) }
}

/// An artifact of the store that nodes share, as a job wants it.
struct Artifact<'a> {
    store: Store,
    kind: String,
    fingerprint: Fingerprint,
    input: &'a JobInput,
    is_signalled: &'a AtomicBool,
}

impl<'a> Artifact<'a> {
    fn at(input: &'a JobInput, is_signalled: &'a AtomicBool) -> Result<Self> {
        let (store, kind, fingerprint) = Store::of_artifact(&input.path)?;
        Ok(Self { store, kind, fingerprint, input, is_signalled })
    }

    fn go_on(&self) -> io::Result<()> {
        let ended = || io::Error::other("the job was asked to end before its inputs were there");
        if self.is_signalled.load(Ordering::Relaxed) { Err(ended()) } else { Ok(()) }
    }

    /// Reads all its bytes where they lie; the worker then finds them in memory.
    fn hold_against_digests(&self) -> Result<()> {
        self.wait_until_seen()?;
        let mut wrong = self.what_is_wrong()?;
        if wrong.is_some() {
            // What a node knew may have been of an artifact that was here before.
            self.store.look_anew(&self.kind);
            wrong = self.what_is_wrong()?;
        }
        let Some(wrong) = wrong else { return Ok(()) };
        let (stage, host) = (&self.input.stage, machine::host());
        let message = format!("its input `{stage}` is not what was committed, as {host} sees it: {wrong}");
        let hint =
            "run again: what is damaged in the store is made anew; if it isn't, look at what that node has mounted";
        Err(Fault::new(message, hint).into())
    }

    fn what_is_wrong(&self) -> Result<Option<String>> {
        Ok(match self.store.verify(&self.kind, self.fingerprint)? {
            Found::Sound(manifest) if manifest.content == self.input.digest => None,
            Found::Sound(_) => Some("it has another content than when the job was submitted".to_owned()),
            Found::Absent => Some(format!("`{}` is not there", self.input.path.display())),
            Found::Damaged(how) => Some(how),
        })
    }

    fn wait_until_seen(&self) -> Result<()> {
        let begun = Instant::now();
        while !self.input.path.exists() && begun.elapsed() < UNSEEN {
            self.go_on()?;
            self.store.look_anew(&self.kind);
            sleep(LOOK_EVERY);
        }
        Ok(self.go_on()?)
    }

    /// Has a sound copy in a store of the node's own, where it stays while the lock is held; returns its folder.
    fn brought_to(&self, scratch: &Store) -> Result<(PathBuf, Lock)> {
        let begun = Instant::now();
        let mut is_copied = false;
        loop {
            self.go_on()?;
            if let Asked::Held(lock) = scratch.share(self.fingerprint)?
                && self.is_in(scratch)?
            {
                return Ok((scratch.folder(&self.kind, self.fingerprint), lock));
            }
            ensure!(!is_copied, "the copy is gone already");
            match scratch.lock(self.fingerprint)? {
                Asked::Held(lock) => {
                    // Another may have brought it in between.
                    if !self.is_in(scratch)? {
                        self.copy_to(scratch, lock)?;
                        is_copied = true;
                    }
                }
                Asked::Busy(holder) if begun.elapsed() > BUSY => bail!("{holder} has it in use"),
                Asked::Busy(_) => sleep(ASK_EVERY),
            }
        }
    }

    fn is_in(&self, scratch: &Store) -> Result<bool> {
        let found = scratch.find(&self.kind, self.fingerprint)?;
        Ok(matches!(found, Found::Sound(manifest) if manifest.content == self.input.digest))
    }

    fn copy_to(&self, scratch: &Store, lock: Lock) -> Result<()> {
        self.wait_until_seen()?;
        let manifest: Manifest = read_manifest(&self.input.path)?;
        if let Some(mistake) = manifest.mistake(self.fingerprint) {
            bail!("its manifest {mistake}");
        }
        ensure!(manifest.content == self.input.digest, "it has another content than when the job was submitted");
        make_room(scratch, manifest.files_bytes());
        let pending = scratch.begin(&self.kind, self.fingerprint, lock)?;
        for name in manifest.files.keys() {
            let from = self.input.path.join(name);
            self.copy(&from, &pending.output().join(name)).with_context(|| format!("copying `{}`", from.display()))?;
        }
        let stamps = pending.hold_against(&manifest)?;
        let stamps = pending.adopt(&manifest, stamps, &format!("copied from {}\n", self.input.path.display()))?;
        scratch.committed(self.fingerprint, stamps);
        Ok(())
    }

    fn copy(&self, from: &Path, to: &Path) -> io::Result<()> {
        to.parent().map_or(Ok(()), fs::create_dir_all)?;
        let (mut from, mut to) = (File::open(from)?, File::create(to)?);
        while io::copy(&mut (&mut from).take(BLOCK_BYTES), &mut to)? > 0 {
            self.go_on()?;
        }
        to.flush()
    }
}

/// Takes away what jobs that are gone have left half-copied, what none has read for long, and then what was read longest ago until
/// so many bytes fit.
fn make_room(scratch: &Store, bytes: u64) {
    for leftover in scratch.leftovers(None) {
        _ = scratch.remove_leftover(&leftover);
    }
    let since = SystemTime::now() - UNUSED;
    for stored in scratch.by_use() {
        let has_room = machine::free_disk_bytes(scratch.root()).is_none_or(|free| free > bytes);
        if has_room && stored.used >= since {
            break;
        }
        _ = scratch.remove(&stored.manifest.key.kind, stored.manifest.fingerprint);
    }
    scratch.prune_locks();
}

#[cfg(test)]
mod tests {
    use bam_contract::artifact::ArtifactKind;
    use bam_contract::manifest::{Key, Provenance};
    use serde_json::json;

    use super::*;
    use crate::store::Finished;

    /// An artifact of one file, made just now.
    fn made(store: &Store, what: &str) -> Fingerprint {
        let (inputs, external) = (BTreeMap::new(), BTreeMap::new());
        let key = Key { kind: "exec".to_owned(), version: 1, params: json!(what), inputs, external };
        let fingerprint = key.fingerprint();
        let Asked::Held(lock) = store.lock(fingerprint).unwrap() else { panic!("nobody has it") };
        let pending = store.begin("exec", fingerprint, lock).unwrap();
        fs::write(pending.output().join("file"), what).unwrap();
        fs::write(pending.log(), "").unwrap();
        let finished = Finished {
            stage: what.to_owned(),
            key,
            artifact: ArtifactKind::Files,
            is_foreign: false,
            summary: String::new(),
            metrics: BTreeMap::new(),
            provenance: Provenance::default(),
        };
        pending.commit(finished).unwrap();
        fingerprint
    }

    #[test]
    fn what_nobody_reads_makes_room_for_what_comes() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let [idle, read] = ["idle", "read"].map(|what| made(&store, what));
        let is_there = || [idle, read].map(|fingerprint| store.folder("exec", fingerprint).exists());
        let Asked::Held(_reading) = store.share(read).unwrap() else { panic!("nobody makes it") };
        make_room(&store, 0);
        assert_eq!(is_there(), [true, true], "there is room");
        make_room(&store, u64::MAX);
        assert_eq!(is_there(), [false, true]);
    }
}
