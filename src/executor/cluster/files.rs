//! What lies in the folder of an attempt that runs as a job, beside the job file and the log that every attempt has.
//!
//! An attempt takes more than one submission where a job ends before its stage is done. Each submission has files and an
//! output folder of its own: what is left of one on a node that was given up may go on writing, and harms no other.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::job::JobId;
use crate::profile::Engine;
use crate::store::{READ, SAID, SUBMITTED};

/// What Slurm says on a node where memory was short, by way of cgroups and without.
const SHORT_OF_MEMORY: [&str; 3] = ["oom-kill", "oom_kill", "exceeded memory limit"];

/// Names of a submission's files.
#[derive(Clone, Debug)]
pub(super) struct Files {
    folder: PathBuf,
    number: u32,
    /// Where what the queue and `setup` print goes, if not into the folder.
    said: Option<PathBuf>,
}

/// What the engine notes of an attempt before it submits anything.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Note {
    /// What queue it was submitted to.
    #[serde(default)]
    pub(super) engine: Engine,
    /// The stage's name.
    pub(super) stage: String,
    /// Which submission is the last, from 1.
    pub(super) number: u32,
    /// By which the job is known in the queue before its number is known here.
    pub(super) name: String,
    /// What the last submission asked for.
    #[serde(default)]
    pub(super) asked: BTreeMap<String, String>,
    /// Names of submissions that the queue was not seen to take; should it have, their jobs are not wanted.
    #[serde(default)]
    pub(super) given_up: Vec<String>,
    /// The last submission's job, once it is known.
    pub(super) job: Option<JobId>,
    /// The jobs of those before.
    pub(super) earlier: Vec<JobId>,
    /// Where what the last one prints goes, if not into the attempt's folder.
    #[serde(default)]
    pub(super) said: Option<PathBuf>,
    /// Submissions that were lost through no fault of the stage, since it last made headway.
    pub(super) lost: u32,
    /// How far it came when it last stopped.
    pub(super) stopped_at: Option<String>,
}

/// What the node is told beside the job file.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Call {
    pub(super) program: Option<Vec<String>>,
    pub(super) threads: usize,
    /// Whether it may use the GPUs that Slurm lets it see.
    pub(super) sees_gpus: bool,
    /// A folder of the node's own disk, where inputs are brought to.
    #[serde(default)]
    pub(super) scratch: Option<PathBuf>,
}

/// What the node says when the worker has ended.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct NodeEnd {
    pub(super) trouble: Option<String>,
    pub(super) peak_memory_bytes: u64,
    pub(super) wall_secs: f64,
    pub(super) host: String,
    /// Whether the worker was asked to end early, by Slurm or by this program.
    pub(super) is_signalled: bool,
    /// Files of its output, with their sizes, if it ended well.
    #[serde(default)]
    pub(super) output: BTreeMap<PathBuf, u64>,
    /// How long the file of events is then: a network file system may show less of it for a while.
    #[serde(default)]
    pub(super) events_bytes: u64,
}

impl Files {
    pub(super) fn new(folder: &Path, number: u32) -> Self {
        Self { folder: folder.to_owned(), number, said: None }
    }

    /// Of an attempt's last submission.
    pub(super) fn of(folder: &Path, note: &Note) -> Self {
        Self { said: note.said.clone(), ..Self::new(folder, note.number) }
    }

    fn numbered(&self, name: &str, ending: &str) -> PathBuf {
        self.folder.join(format!("{name}.{}{ending}", self.number))
    }

    pub(super) fn script(&self) -> PathBuf {
        self.numbered("submit", ".sh")
    }

    pub(super) fn job(&self) -> PathBuf {
        self.numbered("job", ".json")
    }

    /// What the file system said of all that the stage reads, when the engine started it.
    pub(super) fn read(&self) -> PathBuf {
        self.folder.join(READ)
    }

    /// The job file as the node wrote it, with its inputs where it has brought them.
    pub(super) fn placed(&self) -> PathBuf {
        self.numbered("placed", ".json")
    }

    pub(super) fn call(&self) -> PathBuf {
        self.numbered("call", ".json")
    }

    pub(super) fn output(&self) -> PathBuf {
        self.numbered("output", "")
    }

    pub(super) fn events(&self) -> PathBuf {
        self.numbered("events", ".jsonl")
    }

    pub(super) fn end(&self) -> PathBuf {
        self.numbered("end", ".json")
    }

    /// What the queue and the lines of `setup` print.
    pub(super) fn said(&self) -> PathBuf {
        self.said.clone().unwrap_or_else(|| self.numbered("said", ".txt"))
    }

    /// The same of a member of an array of which this is the first. One pattern must do for all of them, and folders of attempts
    /// have none; so it lies beside those.
    pub(super) fn said_of_array(&self, index: impl Display) -> PathBuf {
        let attempt = self.folder.file_name().unwrap_or_default().display();
        self.folder.with_file_name(format!("{SAID}{attempt}.{}_{index}.txt", self.number))
    }

    /// The script of an array of which this is the first.
    pub(super) fn array_script(&self) -> PathBuf {
        self.numbered("array", ".sh")
    }

    pub(super) fn log(&self) -> PathBuf {
        self.folder.join("log.txt")
    }

    pub(super) fn read_end(&self) -> Option<NodeEnd> {
        serde_json::from_slice(&fs::read(self.end()).ok()?).ok()
    }

    /// Whether an output of these files is seen, where the node wrote it or where a run that ended has put it.
    pub(super) fn shows(&self, output: &BTreeMap<PathBuf, u64>) -> bool {
        let size = |folder: &Path, name: &Path| Some(fs::symlink_metadata(folder.join(name)).ok()?.len());
        let folder = if self.output().exists() { self.output() } else { self.folder.join("output") };
        output.iter().all(|(name, bytes)| size(&folder, name) == Some(*bytes))
    }

    /// Writes what the node is to read, and makes the folder that the stage writes to.
    pub(super) fn prepare(&self, call: &Call, script: &str) -> Result<()> {
        let preparing = || format!("writing into `{}`", self.folder.display());
        let job = fs::read(self.folder.join("job.json")).with_context(preparing)?;
        let mut job: Value = serde_json::from_slice(&job).with_context(preparing)?;
        job["output"] = Value::String(self.output().to_str().context("the store's path is not UTF-8")?.to_owned());
        match fs::create_dir(self.output()) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error).with_context(preparing),
            _ => {}
        }
        write_whole(&self.job(), &serde_json::to_vec_pretty(&job)?).with_context(preparing)?;
        write_whole(&self.call(), &serde_json::to_vec(call)?).with_context(preparing)?;
        write_whole(&self.script(), script.as_bytes()).with_context(preparing)
    }

    /// Whether Slurm said on the node that memory was short: the queue may have only that the job failed.
    pub(super) fn tells_of_memory(&self) -> bool {
        let said = fs::read(self.said()).unwrap_or_default();
        let said = String::from_utf8_lossy(&said).into_owned();
        said.lines()
            .any(|line| line.starts_with("slurmstepd") && SHORT_OF_MEMORY.iter().any(|sign| line.contains(sign)))
    }

    /// Puts what the stage made to where an attempt's output is looked for, unless a run that ended then has done so.
    pub(super) fn settle_output(&self) -> io::Result<()> {
        let place = self.folder.join("output");
        if !self.output().exists() && fs::read_dir(&place)?.next().is_some() {
            return Ok(());
        }
        match fs::remove_dir(&place) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        fs::rename(self.output(), place)
    }

    /// Adds what the queue and `setup` printed to the stage's log. Without it a log says less, which is no failure.
    pub(super) fn settle_log(&self) {
        if let Ok(said) = fs::read(self.said())
            && !said.is_empty()
            && let Ok(mut log) = File::options().create(true).append(true).open(self.log())
        {
            _ = log.write_all(&said);
        }
        // The folder takes what is in it along when it goes.
        if let Some(said) = &self.said {
            _ = fs::remove_file(said);
        }
    }
}

/// All files below a folder, with their sizes, but for those of which the name is no text.
pub(super) fn sizes(folder: &Path) -> io::Result<BTreeMap<PathBuf, u64>> {
    let (mut sizes, mut open) = (BTreeMap::new(), vec![PathBuf::new()]);
    while let Some(inside) = open.pop() {
        for entry in fs::read_dir(folder.join(&inside))? {
            let entry = entry?;
            let (name, metadata) = (inside.join(entry.file_name()), entry.metadata()?);
            if metadata.is_dir() {
                open.push(name);
            } else if name.to_str().is_some() {
                sizes.insert(name, metadata.len());
            }
        }
    }
    Ok(sizes)
}

impl Note {
    pub(super) fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(SUBMITTED);
        let reading = || format!("reading `{}`", path.display());
        serde_json::from_slice(&fs::read(&path).with_context(reading)?).with_context(reading)
    }

    pub(super) fn write(&self, folder: &Path) -> Result<()> {
        let path = folder.join(SUBMITTED);
        write_whole(&path, &serde_json::to_vec(self)?).with_context(|| format!("writing `{}`", path.display()))
    }

    /// All jobs of the attempt, in their order.
    pub(super) fn jobs(&self) -> Vec<JobId> {
        self.earlier.iter().chain(&self.job).cloned().collect()
    }
}

/// Writes a file so that others see it whole or not at all, over a network file system too.
pub(super) fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    // For all who may read the store; the user's umask applies.
    let permissions = fs::Permissions::from_mode(0o666);
    let folder = path.parent().expect("a file lies in a folder");
    let mut file = tempfile::Builder::new().permissions(permissions).tempfile_in(folder)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_output_that_was_put_in_its_place_before_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let files = Files::new(folder.path(), 2);
        fs::create_dir(folder.path().join("output")).unwrap();
        assert!(files.settle_output().is_err(), "nothing was made");
        fs::create_dir_all(folder.path().join("output")).unwrap();
        fs::create_dir(files.output()).unwrap();
        fs::write(files.output().join("a.txt"), "made").unwrap();
        for _ in 0..2 {
            files.settle_output().unwrap();
            assert_eq!(fs::read_to_string(folder.path().join("output/a.txt")).unwrap(), "made");
        }
    }
}
