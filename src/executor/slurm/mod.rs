//! Stages as jobs of Slurm: one `sbatch` for each, whose command runs the worker on a node just as the engine would here.
//!
//! All that a job needs and says lies in its attempt's folder, in the store, which the nodes share: so jobs outlive the
//! engine, and another one goes on with them. Slurm's own word is asked for by `squeue` and settles what files can't.

mod clerk;
mod files;
mod node;
mod program;
mod queue;
mod script;
mod tracked;
mod verdict;

use std::collections::BTreeMap;
use std::fs::File;
use std::path::PathBuf;
use std::sync::mpsc::{self, Sender, SyncSender};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use bam_contract::fault::{Fault, closest};
use bam_contract::job::Job;

use super::{Executor, Launch, Local, Message, Queued, Reins, Worker};
use crate::pipeline::did_you_mean;
use crate::profile::{KEEP_STATE, Profile};
use clerk::{Clerk, Request};
use files::{Call, Note};
use script::Ask;
use tracked::{Phase, Tracked};

pub(crate) use node::{ATTENDANT, attend};

/// Slurm's programs that are used.
const PROGRAMS: [&str; 3] = ["sbatch", "squeue", "scancel"];

#[derive(Debug)]
pub(crate) struct Slurm {
    requests: Sender<Request>,
    /// Whether a second Ctrl-C ends jobs, as the first one does; or both leave them.
    cancels: bool,
}

impl Slurm {
    /// Begins to talk to the cluster of a profile.
    ///
    /// # Errors
    /// When Slurm isn't there, or has no such partitions.
    pub(crate) fn begin(profile: Profile, cancels: bool) -> Result<Self> {
        let worker = Local::find()?;
        if let Some(missing) = PROGRAMS.into_iter().find(|program| !is_on_path(program)) {
            let hint =
                "run `bam` where jobs are submitted, a login node mostly, or without `--profile` to run stages here";
            return Err(Fault::new(format!("`{missing}` is not on the `PATH`: no Slurm here"), hint).into());
        }
        let mut settings = profile.settings.clone();
        check_partitions(profile)?;
        let program = worker.program().to_str().context("the worker program's path is not UTF-8")?.to_owned();
        let own = std::env::current_exe().context("finding `bam` itself")?;
        let own = own.to_str().context("the path of `bam` is not UTF-8")?.to_owned();
        // The node finds the worker where it was found here.
        settings.environment.entry("BAM_STAGE".to_owned()).or_insert(program);
        let (requests, receiver) = mpsc::channel();
        let clerk = Clerk::new(settings, vec![own, ATTENDANT.to_owned()], receiver);
        thread::Builder::new().name("slurm".to_owned()).spawn(|| clerk.work()).context("starting a thread")?;
        Ok(Self { requests, cancels })
    }

    fn track(&self, launch: &Launch<'_>, messages: SyncSender<Message>, note: Option<Note>) -> Result<Box<dyn Worker>> {
        let folder = launch.job.parent().expect("a job file lies in an attempt's folder");
        let job = Job::read(launch.job)?;
        // One is there of each attempt, though its job say nothing.
        File::options().create(true).append(true).open(launch.log).context("opening the stage's log")?;
        let ask = Ask {
            stage: launch.needs.stage.to_owned(),
            kind: launch.needs.kind.to_owned(),
            cpus: launch.threads,
            memory_bytes: launch.needs.memory_bytes,
            gpus: launch.needs.gpus,
            keeps_state: KEEP_STATE.contains(&launch.needs.kind),
        };
        let call = Call {
            program: launch.program.map(<[String]>::to_vec),
            threads: launch.threads,
            sees_gpus: launch.needs.gpus > 0,
        };
        let adopted = note.is_some();
        let note = note.unwrap_or_else(|| Note { stage: ask.stage.clone(), number: 1, ..Note::default() });
        // Before anything is submitted: a run that comes after this one then knows of it.
        note.write(folder)?;
        let mut tracked = Tracked::new(launch.stage, folder.to_owned(), (ask, call, note), job.resume, messages);
        if adopted {
            tracked.is_adopted = true;
            tracked.phase = if tracked.note.job.is_some() { Phase::Watch } else { Phase::Find { tries: 0 } };
            tracked.replay();
        }
        self.requests.send(Request::Track(Box::new(tracked))).context("the thread that talks to Slurm has ended")?;
        Ok(Box::new(SlurmWorker { stage: launch.stage, requests: self.requests.clone() }))
    }
}

impl Executor for Slurm {
    fn start(&self, launch: &Launch<'_>, messages: SyncSender<Message>) -> Result<Box<dyn Worker>> {
        self.track(launch, messages, None)
    }

    fn adopt(&self, launch: &Launch<'_>, messages: SyncSender<Message>) -> Result<Box<dyn Worker>> {
        let folder = launch.job.parent().expect("a job file lies in an attempt's folder");
        self.track(launch, messages, Some(Note::read(folder)?))
    }

    fn outlives(&self) -> bool {
        true
    }

    fn reins(&self) -> Box<dyn Reins> {
        Box::new(SlurmReins { requests: self.requests.clone(), cancels: self.cancels })
    }
}

struct SlurmWorker {
    stage: usize,
    requests: Sender<Request>,
}

impl Worker for SlurmWorker {
    fn stop(&self) {
        _ = self.requests.send(Request::Stop(self.stage));
    }

    fn kill(&self) {
        _ = self.requests.send(Request::Kill(self.stage));
    }
}

struct SlurmReins {
    requests: Sender<Request>,
    cancels: bool,
}

impl Reins for SlurmReins {
    /// The loop does it, which knows whether jobs are to be left.
    fn stop(&self) {}

    fn kill(&self) {
        if self.cancels {
            _ = self.requests.send(Request::KillAll);
        }
    }
}

/// How the jobs of attempts stand in the queue now; an attempt of which it isn't known is left out.
pub(crate) fn jobs_of(attempts: &[PathBuf]) -> BTreeMap<PathBuf, Queued> {
    /// Who asks how things stand doesn't want to wait.
    const SOON: Duration = Duration::from_secs(5);
    let noted = attempts.iter().filter_map(|attempt| Some((attempt, Note::read(attempt).ok()?)));
    let noted: Vec<(&PathBuf, Note)> = noted.collect();
    if noted.is_empty() {
        return BTreeMap::new();
    }
    let arguments = queue::ARGUMENTS.map(ToOwned::to_owned);
    let answer = program::ask("squeue", &arguments, SOON).ok().filter(|answer| answer.trouble.is_none());
    let jobs = answer.and_then(|answer| queue::read(&answer.stdout).ok()).unwrap_or_default();
    let of = |note: &Note| jobs.values().find(|job| note.job == Some(job.queued.job) || note.name == job.name);
    noted.into_iter().filter_map(|(attempt, note)| Some((attempt.clone(), of(&note)?.queued.clone()))).collect()
}

/// A profile's partitions are there, by `sinfo`; where that says nothing, `sbatch` will.
fn check_partitions(profile: Profile) -> Result<()> {
    if profile.partitions().is_empty() {
        return Ok(());
    }
    let arguments = ["--noheader", "--format=%R"].map(ToOwned::to_owned);
    let answer = program::ask("sinfo", &arguments, program::PATIENCE);
    let Some(said) = answer.ok().filter(|answer| answer.trouble.is_none()) else { return Ok(()) };
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    let known: Vec<&str> = said.split_whitespace().collect();
    let unknown =
        profile.partitions().into_iter().filter(|(name, _)| name.split(',').any(|name| !known.contains(&name)));
    let mistakes: Vec<_> = unknown
        .map(|(name, place)| {
            let hint = closest(name, known.iter().copied()).map(did_you_mean);
            let hint = hint.or_else(|| Some(format!("known: {}", known.join(", "))));
            (place, format!("the cluster has no partition `{name}`"), hint)
        })
        .collect();
    if mistakes.is_empty() { Ok(()) } else { Err(profile.refuse(mistakes).into()) }
}

fn is_on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}
