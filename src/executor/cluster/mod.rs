//! Stages as jobs of a queue, whose command runs the worker on a node just as the engine would here.
//!
//! All that a job needs and says lies in its attempt's folder, in the store, which the nodes share: so jobs outlive the
//! engine, and another one goes on with them. The queue's own word is asked for and settles what files can't.

mod ask;
mod clerk;
mod files;
mod inputs;
mod job;
mod node;
mod program;
mod queue;
mod script;
mod slurm;
mod survey;
mod template;
mod tracked;
mod verdict;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, Sender, SyncSender};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bam_contract::fault::Fault;
use bam_contract::job::Job;

use super::{Executor, Launch, Local, Message, Queued, Reins, Worker};
use crate::profile::{Engine, Profile};
use crate::store::SUBMITTED;
use ask::Ask;
use clerk::{Clerk, Request};
use files::{Call, Note};
use queue::Queue;
use slurm::Slurm;
use template::Template;
use tracked::{Phase, Tracked};

pub(crate) use job::JobId;
pub(crate) use node::{ATTENDANT, attend};

#[derive(Debug)]
pub(crate) struct Cluster {
    engine: Engine,
    requests: Sender<Request>,
    /// Whether a second Ctrl-C ends jobs, as the first one does; or both leave them.
    cancels: bool,
    /// How often the queue is asked.
    poll: Duration,
    /// The folder of each node's own that inputs are brought to.
    scratch: Option<PathBuf>,
}

/// How long a second Ctrl-C waits for the queue to be told: a little longer than one of its programs may take.
const KILL_PATIENCE: Duration = Duration::from_secs(25);

impl Cluster {
    /// Begins to talk to the queue of a profile.
    ///
    /// # Errors
    /// When it isn't there, or hasn't what the profile names.
    pub(crate) fn begin(profile: Profile, cancels: bool) -> Result<Self> {
        let worker = Local::find()?;
        let mut settings = profile.settings.clone();
        let program = worker.program().to_str().context("the worker program's path is not UTF-8")?.to_owned();
        let own = std::env::current_exe().context("finding `bam` itself")?;
        let own = own.to_str().context("the path of `bam` is not UTF-8")?.to_owned();
        // The node finds the worker where it was found here.
        settings.environment.entry("BAM_STAGE".to_owned()).or_insert(program);
        let queue: Box<dyn Queue> = match settings.executor {
            Engine::Slurm => Box::new(Slurm::begin(profile, settings.clone())?),
            Engine::Command => Box::new(Template::begin(profile)?),
        };
        let (engine, poll, scratch) = (settings.executor, settings.poll.0, settings.scratch.clone());
        let (requests, receiver) = mpsc::channel();
        let clerk = Clerk::new(queue, settings, vec![own, ATTENDANT.to_owned()], receiver);
        thread::Builder::new().name("clerk".to_owned()).spawn(|| clerk.work()).context("starting a thread")?;
        Ok(Self { engine, requests, cancels, poll, scratch })
    }

    /// Finds out by the queue of a profile, where it answers, whether it has what is named there.
    ///
    /// # Errors
    /// When it hasn't.
    pub(crate) fn check(profile: Profile) -> Result<()> {
        match profile.settings.executor {
            Engine::Slurm => slurm::check(profile),
            Engine::Command => Ok(()),
        }
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
            is_memory_known: launch.needs.is_memory_known,
            gpus: launch.needs.gpus,
            time: launch.needs.time,
        };
        let call = Call {
            program: launch.program.map(<[String]>::to_vec),
            threads: launch.threads,
            sees_gpus: launch.needs.gpus > 0,
            scratch: self.scratch.clone(),
        };
        let adopted = note.is_some();
        let note = note.unwrap_or_else(|| Note {
            engine: self.engine,
            stage: ask.stage.clone(),
            number: 1,
            ..Note::default()
        });
        // Before anything is submitted: a run that comes after this one then knows of it.
        note.write(folder)?;
        let mut tracked = Tracked::new(launch.stage, folder.to_owned(), (ask, call, note), job.resume, messages);
        if adopted {
            tracked.is_adopted = true;
            // Where its number is not known, the queue may be about to take it.
            let find = Phase::Find { until: Instant::now() + self.poll, tries: 0 };
            tracked.phase = if tracked.note.job.is_some() { Phase::Watch } else { find };
            tracked.take_claim();
        }
        let claim = tracked.claim.clone();
        self.requests
            .send(Request::Track(Box::new(tracked)))
            .context("the thread that talks to the queue has ended")?;
        Ok(Box::new(ClusterWorker { stage: launch.stage, requests: self.requests.clone(), claim }))
    }
}

impl Executor for Cluster {
    fn start(&self, launch: &Launch<'_>, messages: SyncSender<Message>) -> Result<Box<dyn Worker>> {
        self.track(launch, messages, None)
    }

    fn adopt(&self, launch: &Launch<'_>, messages: SyncSender<Message>) -> Result<Box<dyn Worker>> {
        let folder = launch.job.parent().expect("a job file lies in an attempt's folder");
        let owner = fs::metadata(folder.join(SUBMITTED)).context("looking at who submitted a job")?.uid();
        // SAFETY: a plain system call.
        if owner != unsafe { libc::geteuid() } {
            let message =
                format!("a job of another user (number {owner}) makes it, or has made it, for a run that is gone");
            let hint = format!(
                "ask who has it to run `bam` again; or, once it is nowhere in the queue, to remove `{}`",
                folder.display()
            );
            return Err(Fault::new(message, hint).into());
        }
        let note = Note::read(folder)?;
        if note.engine != self.engine {
            let hint = "`bam run --profile FILE` with the profile that it was submitted with goes on with it";
            return Err(Fault::new("a job of another queue than the profile's makes it, or has made it", hint).into());
        }
        self.track(launch, messages, Some(note))
    }

    fn outlives(&self) -> bool {
        true
    }

    fn reins(&self) -> Box<dyn Reins> {
        Box::new(ClusterReins { requests: self.requests.clone(), cancels: self.cancels })
    }
}

struct ClusterWorker {
    stage: usize,
    requests: Sender<Request>,
    /// Whether the queue may have its job.
    claim: Arc<AtomicBool>,
}

impl Worker for ClusterWorker {
    fn kill(&self) {
        _ = self.requests.send(Request::Kill(self.stage));
    }

    fn leave(&self) -> bool {
        // One that is taken here is submitted by nobody.
        let is_submitted = self.claim.swap(true, Ordering::AcqRel);
        _ = self.requests.send(Request::Leave(self.stage));
        is_submitted
    }
}

struct ClusterReins {
    requests: Sender<Request>,
    cancels: bool,
}

impl Reins for ClusterReins {
    fn stop(&self) {
        _ = self.requests.send(Request::StopAll);
    }

    fn kill(&self) -> Option<String> {
        let (reply, answer) = mpsc::sync_channel(1);
        if !self.cancels || self.requests.send(Request::KillAll(reply)).is_err() {
            return None;
        }
        let unreached = match answer.recv_timeout(KILL_PATIENCE) {
            Ok(0) | Err(RecvTimeoutError::Disconnected) => return None,
            Ok(1) => "the queue could not be told to end 1 job".to_owned(),
            Ok(count) => format!("the queue could not be told to end {count} jobs"),
            Err(RecvTimeoutError::Timeout) => "the queue gave no answer".to_owned(),
        };
        Some(format!("{unreached}: what is left there may go on"))
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
    let is_any_slurms = noted.iter().any(|(_, note)| note.engine == Engine::Slurm);
    let jobs = if is_any_slurms { slurm::all_jobs(SOON).unwrap_or_default() } else { Vec::new() };
    let of = |note: &Note| match note.engine {
        // Numbers begin anew when a queue does.
        Engine::Slurm => jobs.iter().find(|job| note.name == job.name).map(|job| job.queued.clone()),
        // Only its profile says how to ask.
        Engine::Command => {
            note.job.clone().map(|job| Queued { job, state: "submitted".to_owned(), reason: None, node: None })
        }
    };
    noted.into_iter().filter_map(|(attempt, note)| Some((attempt.clone(), of(&note)?))).collect()
}
