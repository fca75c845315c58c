//! From a folder that a stage wrote to an artifact.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use super::attempts::Attempt;
use super::{LOG, Lock, MANIFEST, READ, Stamps, read_manifest};
use crate::fingerprint::Stamp;
use anyhow::{Context, Result, bail, ensure};
use bam_contract::artifact::{ArtifactKind, encoder, onnx};
use bam_contract::digest::{Digest, Fingerprint};
use bam_contract::fault::Fault;
use bam_contract::manifest::{FileEntry, Key, Manifest, Provenance};

/// An artifact in the making. Dropped without [`Pending::commit`], it leaves nothing, unless it is to be left.
#[derive(Debug)]
pub(crate) struct Pending {
    folder: Attempt,
    target: PathBuf,
    /// Nobody else makes this artifact meanwhile.
    _lock: Lock,
}

/// What is said of a stage that ended well.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) stage: String,
    pub(crate) key: Key,
    pub(crate) artifact: ArtifactKind,
    /// Whether a program of the user's made it: then its files are opened before anything relies on them.
    pub(crate) is_foreign: bool,
    pub(crate) summary: String,
    pub(crate) metrics: BTreeMap<String, f64>,
    pub(crate) provenance: Provenance,
}

impl Pending {
    pub(super) fn create(folder: Attempt, target: PathBuf, lock: Lock) -> io::Result<Self> {
        fs::create_dir(folder.path().join("output"))?;
        Ok(Self { folder, target, _lock: lock })
    }

    /// One that is being made already.
    pub(super) fn take_over(folder: Attempt, target: PathBuf, lock: Lock) -> Self {
        Self { folder, target, _lock: lock }
    }

    /// Whether its folder stays when this is dropped, for what makes it outlives this process.
    pub(crate) fn leave(&self, is_left: bool) {
        self.folder.leave(is_left);
    }

    /// A file beside the output, for who takes it over.
    pub(crate) fn note(&self) -> PathBuf {
        self.folder.path().join(READ)
    }

    /// The empty folder that the stage writes to.
    pub(crate) fn output(&self) -> PathBuf {
        self.folder.path().join("output")
    }

    /// The job file, beside the output.
    pub(crate) fn job(&self) -> PathBuf {
        self.folder.path().join("job.json")
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.folder.path().join(LOG)
    }

    pub(crate) fn write_job(&self, job: &[u8]) -> Result<()> {
        write_whole(&self.job(), job)
    }

    pub(crate) fn write_note(&self, note: &[u8]) -> Result<()> {
        write_whole(&self.note(), note)
    }

    /// Makes room on the disk for what is to be said of a stage that failed.
    pub(crate) fn discard_output(&self) {
        _ = fs::remove_dir_all(self.output());
    }

    /// How many files the stage has written.
    pub(crate) fn count_files(&self) -> usize {
        files_in(&self.output()).map_or(0, |files| files.len())
    }

    /// Verifies, syncs, and moves the output to its place; an artifact that was there goes.
    pub(crate) fn commit(&self, finished: Finished) -> Result<(Manifest, Stamps)> {
        let fingerprint = finished.key.fingerprint();
        let output = fs::symlink_metadata(self.output()).context("looking at the stage's output")?;
        ensure!(output.is_dir(), "the stage put something else in the place of its output folder");
        self.undo_half_a_commit(fingerprint).context("looking at the stage's output")?;
        make_plain(&self.output()).context("looking at the stage's output")?;
        let (files, mut stamps) = entries(&self.output(), fingerprint)?;
        need_files(finished.artifact, &files)?;
        if finished.is_foreign {
            let hint = "`docs/exec.md` says what each kind consists of";
            let wrong = || Fault::new(format!("what the stage wrote is not {}", finished.artifact), hint);
            finished.artifact.check(&self.output()).with_context(wrong)?;
        }
        let manifest = Manifest {
            fingerprint,
            stage: finished.stage,
            artifact: finished.artifact,
            key: finished.key,
            content: Manifest::content_of(finished.artifact, &files),
            files,
            summary: finished.summary,
            metrics: finished.metrics,
            provenance: finished.provenance,
        };
        stamps.insert(MANIFEST.to_owned(), self.put_in_place(&manifest)?);
        Ok((manifest, stamps))
    }

    /// Whether what came from elsewhere is what its manifest says.
    pub(crate) fn hold_against(&self, manifest: &Manifest) -> Result<Stamps> {
        let (files, stamps) = entries(&self.output(), manifest.fingerprint)?;
        for (name, entry) in &manifest.files {
            match files.get(name) {
                None => bail!("`{name}` did not come"),
                Some(came) if came != entry => bail!("`{name}` came with other bytes than were sent"),
                Some(_) => {}
            }
        }
        need_files(manifest.artifact, &files)?;
        Ok(stamps)
    }

    /// Takes that in.
    pub(crate) fn adopt(&self, manifest: &Manifest, mut stamps: Stamps, log: &str) -> Result<Stamps> {
        fs::write(self.log(), log).with_context(|| format!("writing `{}`", self.log().display()))?;
        stamps.insert(MANIFEST.to_owned(), self.put_in_place(manifest)?);
        Ok(stamps)
    }

    /// Takes away what a run that ended while it committed had put beside the files: its own, by the name of what is made.
    fn undo_half_a_commit(&self, fingerprint: Fingerprint) -> io::Result<()> {
        let output = self.output();
        if !read_manifest(&output).is_ok_and(|there| there.fingerprint == fingerprint) {
            return Ok(());
        }
        for name in [LOG, MANIFEST] {
            match fs::remove_file(output.join(name)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// Syncs, and moves the output to its place; the stamp of the manifest written there.
    fn put_in_place(&self, manifest: &Manifest) -> Result<Stamp> {
        let output = self.output();
        // Whole or not at all, and before the log: who finds the attempt then knows both for this program's.
        let fresh = self.folder.path().join(MANIFEST);
        fs::write(&fresh, serde_json::to_string_pretty(manifest)? + "\n")
            .and_then(|()| fs::rename(&fresh, output.join(MANIFEST)))
            .and_then(|()| fs::copy(self.log(), output.join(LOG)).map(drop))
            .and_then(|()| sync(&output))
            .with_context(|| format!("writing `{}`", output.display()))?;
        let stamp = fs::metadata(output.join(MANIFEST)).map(|metadata| Stamp::of(&metadata))?;
        let parent = self.target.parent().expect("an artifact lies in a kind's folder");
        let moving = || format!("moving the stage's output to `{}`", self.target.display());
        fs::create_dir_all(parent).with_context(moving)?;
        self.rename_into_place(&output, manifest).with_context(moving)?;
        File::open(parent).and_then(|folder| folder.sync_all()).with_context(moving)?;
        Ok(stamp)
    }
}

impl Pending {
    /// One step, which needs no lock to leave a whole artifact: of two that do it at once, one comes after the other.
    fn rename_into_place(&self, output: &Path, manifest: &Manifest) -> io::Result<()> {
        let mut error = None;
        for number in 0..MOST_RENAMES {
            if self.target.exists() {
                fs::rename(&self.target, self.folder.path().join(format!("replaced.{number}")))?;
            }
            match fs::rename(output, &self.target) {
                Ok(()) => return Ok(()),
                // Over a network an answer may be lost: then the same request is sent again, and fails, for it was done.
                Err(_) if !output.exists() && is_there(&self.target, manifest) => return Ok(()),
                Err(again) if again.kind() == io::ErrorKind::DirectoryNotEmpty => error = Some(again),
                Err(error) => return Err(error),
            }
        }
        Err(error.unwrap_or_else(|| io::ErrorKind::DirectoryNotEmpty.into()))
    }
}

/// Writes a file whole or not at all: a job may be reading it.
fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let fresh = path.with_extension("new");
    let written = fs::write(&fresh, bytes).and_then(|()| fs::rename(&fresh, path));
    written.with_context(|| format!("writing `{}`", path.display()))
}

/// How often another host's artifact of the same name may come in between.
const MOST_RENAMES: usize = 3;

fn is_there(target: &Path, manifest: &Manifest) -> bool {
    let there = read_manifest(target).ok().and_then(|there| serde_json::to_value(there).ok());
    there.is_some() && there == serde_json::to_value(manifest).ok()
}

/// Sizes and digests of all files below a folder, and their stamps from before they were read: one that changes
/// meanwhile has another.
fn entries(output: &Path, fingerprint: Fingerprint) -> Result<(BTreeMap<String, FileEntry>, Stamps)> {
    let (mut files, mut stamps) = (BTreeMap::new(), Stamps::new());
    for name in files_in(output)? {
        if [MANIFEST, LOG].contains(&name.as_str()) {
            bail!("the stage wrote `{name}`, which is `bam`'s own file in every artifact");
        }
        let path = output.join(&name);
        let reading = || format!("reading `{name}` of the stage's output");
        let metadata = fs::metadata(&path).with_context(reading)?;
        let entry = FileEntry {
            size_bytes: metadata.len(),
            digest: Digest::of_file(&path).with_context(reading)?,
            content: Digest::of_content(&path, fingerprint).with_context(reading)?,
        };
        stamps.insert(name.clone(), Stamp::of(&metadata));
        files.insert(name, entry);
    }
    Ok((files, stamps))
}

/// Names of all files below a folder, relative to it.
pub(super) fn files_in(folder: &Path) -> Result<Vec<String>> {
    let mut files = Vec::new();
    let mut open = vec![PathBuf::new()];
    while let Some(inside) = open.pop() {
        for entry in fs::read_dir(folder.join(&inside)).with_context(|| format!("reading `{}`", folder.display()))? {
            let entry = entry?;
            let path = inside.join(entry.file_name());
            let file_type = entry.file_type()?;
            if file_type.is_dir() {
                open.push(path);
            } else if file_type.is_file() {
                files.push(path.to_str().context("a file name is not UTF-8")?.to_owned());
            } else {
                bail!("`{}` is neither a file nor a folder", path.display());
            }
        }
    }
    files.sort();
    Ok(files)
}

/// Leaves what a remote keeps too: bytes under names. No file may be executed, and no folder is empty.
fn make_plain(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let (path, metadata) = (entry.path(), entry.metadata()?);
        if metadata.is_dir() {
            make_plain(&path)?;
            if fs::read_dir(&path)?.next().is_none() {
                fs::remove_dir(&path)?;
            }
        } else if metadata.is_file() {
            // What has another name too is somebody else's, and may change.
            if metadata.nlink() > 1 {
                let own = folder.join(format!(".own-{}", std::process::id()));
                fs::copy(&path, &own)?;
                fs::rename(&own, &path)?;
            }
            let mode = metadata.permissions().mode();
            if mode & 0o111 != 0 {
                fs::set_permissions(&path, fs::Permissions::from_mode(mode & !0o111))?;
            }
        }
    }
    Ok(())
}

/// A stage that says it is done must have written what its kind of artifact consists of.
fn need_files(artifact: ArtifactKind, files: &BTreeMap<String, FileEntry>) -> Result<()> {
    let needed: &[&str] = match artifact {
        ArtifactKind::Examples | ArtifactKind::Tokens => &["*.parquet"],
        ArtifactKind::Predictions => &["*.arrow"],
        ArtifactKind::Checkpoint => &[encoder::CONFIG, encoder::WEIGHTS, "bam.json"],
        ArtifactKind::OnnxModel => &[onnx::GRAPH, "bam.json"],
        ArtifactKind::Scores => &["scores.json"],
        ArtifactKind::Files if files.is_empty() => bail!("the stage says it is done, but wrote nothing"),
        ArtifactKind::Files => &[],
        ArtifactKind::Comparison => &["comparison.json", "trials.parquet"],
        ArtifactKind::Submission => &["submission.json", "submission.zip"],
    };
    for need in needed {
        let there = match need.strip_prefix('*') {
            Some(ending) => files.keys().any(|name| name.ends_with(ending)),
            None => files.contains_key(*need),
        };
        if !there {
            bail!("the stage says it is done, but wrote no `{need}`");
        }
    }
    Ok(())
}

/// Flushes a folder and all below it to the disk.
fn sync(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sync(&entry.path())?;
        } else {
            File::open(entry.path())?.sync_all()?;
        }
    }
    File::open(folder)?.sync_all()
}
