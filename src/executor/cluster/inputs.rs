//! What a job reads, made sure of on its node before the worker starts.
//!
//! Each input is held against its manifest's digests as this node sees it: a network file system may show another state, or other
//! bytes, than the login node had. Where the profile names a folder of the node's own disk, an input is brought there once for
//! all jobs of the node, and verified as it comes; that folder is a store like any other.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, bail};
use bam_contract::digest::Fingerprint;
use bam_contract::event::Event;
use bam_contract::fault::Fault;
use bam_contract::job::{Job, JobInput};
use bam_contract::manifest::Manifest;

use super::files::{Files, refresh, write_whole};
use crate::machine;
use crate::store::{Asked, Found, Lock, Store, read_manifest};

/// How long an artifact that isn't seen is waited for: clients of a network file system may know for a minute that it isn't there.
const UNSEEN: Duration = Duration::from_mins(2);
/// How long another job is waited for that brings the same.
const BUSY: Duration = Duration::from_mins(10);
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// What no job of the node has read for so long leaves its disk.
const UNUSED: Duration = Duration::from_hours(7 * 24);

/// Sound inputs, kept on the node's own disk for as long as this lives.
#[derive(Debug)]
pub(super) struct Inputs {
    /// The job file that leads the worker to them.
    pub(super) job: PathBuf,
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
    let mut scratch = scratch.and_then(|folder| match Store::open(folder) {
        Ok(store) => Some(store),
        Err(error) => {
            tell(not_brought(folder, &error));
            None
        }
    });
    let mut held = Vec::new();
    for input in &mut job.inputs {
        if is_signalled.load(Ordering::Relaxed) {
            bail!("the job was asked to end before its inputs were there");
        }
        let shared = Artifact::at(&input.path)?;
        if let Some(store) = &scratch {
            match shared.brought_to(store, input) {
                Ok((folder, lock)) => {
                    input.path = folder;
                    held.push(lock);
                    continue;
                }
                // If it is the input's fault, reading it in its place tells so.
                Err(error) => {
                    tell(not_brought(store.root(), &error));
                    scratch = None;
                }
            }
        }
        shared.hold_against_digests(input)?;
    }
    let mut path = files.job();
    if let Some(store) = scratch {
        store.save_verified();
        path = files.placed();
        write_whole(&path, &serde_json::to_vec_pretty(&job)?)
            .with_context(|| format!("writing `{}`", path.display()))?;
    }
    Ok(Inputs { job: path, _held: held })
}

fn not_brought(scratch: &Path, error: &anyhow::Error) -> Event {
    let text =
        format!("inputs are read from the store, not from `{}` of {}: {error:#}", scratch.display(), machine::host());
    Event::Warning { text }
}

/// An artifact of the store that nodes share.
struct Artifact {
    store: Store,
    kind: String,
    fingerprint: Fingerprint,
    folder: PathBuf,
}

impl Artifact {
    fn at(folder: &Path) -> Result<Self> {
        let (store, kind, fingerprint) = Store::of_artifact(folder)?;
        Ok(Self { store, kind, fingerprint, folder: folder.to_owned() })
    }

    /// Reads all its bytes where they lie; the worker then finds them in memory.
    fn hold_against_digests(&self, input: &JobInput) -> Result<()> {
        let begun = Instant::now();
        loop {
            let wrong = match self.store.verify(&self.kind, self.fingerprint)? {
                Found::Sound(manifest) if manifest.content == input.digest => return Ok(()),
                Found::Sound(_) => "it has another content than when the job was submitted".to_owned(),
                Found::Absent if begun.elapsed() < UNSEEN => {
                    self.folder.parent().into_iter().for_each(refresh);
                    sleep(LOOK_EVERY);
                    continue;
                }
                Found::Absent => format!("`{}` is not there", self.folder.display()),
                Found::Damaged(how) => how,
            };
            let message = format!(
                "its input `{}` is not what was committed, as {} sees it: {wrong}",
                input.stage,
                machine::host()
            );
            let hint =
                "run again: what is damaged in the store is made anew; if it isn't, look at what that node has mounted";
            return Err(Fault::new(message, hint).into());
        }
    }

    /// Has a sound copy in a store of the node's own, where it stays while the lock is held; returns its folder.
    fn brought_to(&self, scratch: &Store, input: &JobInput) -> Result<(PathBuf, Lock)> {
        let begun = Instant::now();
        loop {
            if let Asked::Held(lock) = scratch.share(self.fingerprint)?
                && self.is_in(scratch, input)?
            {
                return Ok((scratch.folder(&self.kind, self.fingerprint), lock));
            }
            match scratch.lock(self.fingerprint)? {
                // Another may have brought it in between.
                Asked::Held(_) if self.is_in(scratch, input)? => {}
                Asked::Held(lock) => self.copy_to(scratch, lock)?,
                Asked::Busy(holder) if begun.elapsed() > BUSY => bail!("{holder} has it in use"),
                Asked::Busy(_) => sleep(LOOK_EVERY),
            }
        }
    }

    fn is_in(&self, scratch: &Store, input: &JobInput) -> Result<bool> {
        let found = scratch.find(&self.kind, self.fingerprint)?;
        Ok(matches!(found, Found::Sound(manifest) if manifest.content == input.digest))
    }

    fn copy_to(&self, scratch: &Store, lock: Lock) -> Result<()> {
        make_room(scratch);
        let manifest: Manifest = read_manifest(&self.folder)?;
        let pending = scratch.begin(&self.kind, self.fingerprint, lock)?;
        for name in manifest.files.keys() {
            let (from, to) = (self.folder.join(name), pending.output().join(name));
            let copy = || -> std::io::Result<()> {
                to.parent().map_or(Ok(()), fs::create_dir_all)?;
                fs::copy(&from, &to).map(drop)
            };
            copy().with_context(|| format!("copying `{}`", from.display()))?;
        }
        let stamps = pending.hold_against(&manifest)?;
        let stamps = pending.adopt(&manifest, stamps, &format!("copied from {}\n", self.folder.display()))?;
        scratch.committed(self.fingerprint, stamps);
        Ok(())
    }
}

/// Takes away what jobs that are gone have left half-copied, and what none has read for long.
fn make_room(scratch: &Store) {
    scratch.sweep();
    let since = SystemTime::now() - UNUSED;
    for unused in scratch.by_use().into_iter().filter(|stored| stored.used < since) {
        _ = scratch.remove(&unused.manifest.key.kind, unused.manifest.fingerprint);
    }
}
