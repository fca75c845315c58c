//! The one thread that talks to Slurm: it submits, follows what workers write, asks the queue now and then, and cancels.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use bam_contract::fault::Fault;

use super::super::Message;
use super::program::{Asking, PATIENCE, ask};
use super::queue::{self, QueueJob};
use super::script;
use super::tracked::{Phase, Tracked};
use super::verdict::Verdict;
use crate::profile::Settings;

/// Between two looks at what workers write: so long, and longer the more jobs there are, for the file system's sake.
const LOOK_EVERY: Duration = Duration::from_millis(100);
const LOOK_EVERY_PER_JOB: Duration = Duration::from_millis(10);
const LOOK_EVERY_AT_MOST: Duration = Duration::from_secs(5);

/// Between two questions to the queue while a job's end is known but not why, or while jobs are to end.
const ASK_SOON: Duration = Duration::from_secs(1);
/// And at most, however often it gave no answer.
const ASK_AT_MOST: Duration = Duration::from_mins(5);

/// Submissions of one job that Slurm may put off.
const MOST_TRIES: u32 = 8;

/// What `sbatch` says where another try may help: the controller is busy or away, or the queue is full.
const FOR_NOW: [&str; 8] = [
    "timed out",
    "no answer within",
    "contact slurm controller",
    "Connection refused",
    "temporar",
    "try again",
    "Zero Bytes were transmitted",
    QUEUE_FULL,
];
/// A part of the names of limits to a user's jobs in the queue, which leave it in time.
const QUEUE_FULL: &str = "SubmitJob";

/// What the engine wants.
#[derive(Debug)]
pub(super) enum Request {
    Track(Box<Tracked>),
    /// Of a stage.
    Stop(usize),
    Kill(usize),
    KillAll,
}

#[derive(Debug)]
pub(super) struct Clerk {
    settings: Settings,
    /// The worker's call, but for the attempt's folder and the submission's number.
    words: Vec<String>,
    requests: Receiver<Request>,
    jobs: BTreeMap<usize, Tracked>,
    asking: Option<Asking>,
    /// When the queue is asked next, at the latest.
    ask_at: Instant,
    /// How often it gave no answer since it last did.
    failures: u32,
}

impl Clerk {
    pub(super) fn new(settings: Settings, words: Vec<String>, requests: Receiver<Request>) -> Self {
        let ask_at = Instant::now();
        Self { settings, words, requests, jobs: BTreeMap::new(), asking: None, ask_at, failures: 0 }
    }

    /// Works until the engine is gone.
    pub(super) fn work(mut self) {
        loop {
            let wait = LOOK_EVERY.max(LOOK_EVERY_PER_JOB * self.jobs.len() as u32).min(LOOK_EVERY_AT_MOST);
            let first = if self.jobs.is_empty() {
                self.requests.recv().map_err(RecvTimeoutError::from)
            } else {
                self.requests.recv_timeout(wait)
            };
            match first {
                Ok(request) => self.heed(request),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            while let Ok(request) = self.requests.try_recv() {
                self.heed(request);
            }
            self.submit();
            self.listen();
            self.ask_queue();
            self.judge();
        }
    }

    fn heed(&mut self, request: Request) {
        match request {
            Request::Track(tracked) => {
                if tracked.is_adopted {
                    self.ask_at = Instant::now();
                }
                self.jobs.insert(tracked.stage, *tracked);
            }
            Request::Stop(stage) => self.stop(stage, false),
            Request::Kill(stage) => self.stop(stage, true),
            Request::KillAll => {
                let all: Vec<String> =
                    self.jobs.values().filter_map(|job| job.note.job.map(|job| job.to_string())).collect();
                self.jobs.values_mut().for_each(|job| job.is_asked = true);
                if !all.is_empty() {
                    cancel(&all);
                }
            }
        }
    }

    /// Asks a job to end: takes it out of the queue where it waits, and has its worker keep its state where it runs; or ends
    /// it `at_once`.
    fn stop(&mut self, stage: usize, at_once: bool) {
        let Some(tracked) = self.jobs.get_mut(&stage) else { return };
        if tracked.is_asked && !at_once {
            return;
        }
        tracked.is_asked = true;
        self.ask_at = self.ask_at.min(Instant::now() + ASK_SOON);
        if let Phase::Submit { .. } = tracked.phase {
            tracked.tell_end(Some("it was not submitted yet".to_owned()), None);
            self.jobs.remove(&stage);
        } else if let Some(job) = tracked.note.job {
            let job = job.to_string();
            if at_once {
                cancel(&[job]);
            } else {
                cancel(&["--state=PENDING".to_owned(), job.clone()]);
                cancel(&["--batch".to_owned(), "--signal=TERM".to_owned(), job]);
            }
        }
    }

    /// Submits what is due.
    fn submit(&mut self) {
        let due = |tracked: &Tracked| matches!(tracked.phase, Phase::Submit { at, .. } if at <= Instant::now());
        let due: Vec<usize> = self.jobs.iter().filter(|(_, tracked)| due(tracked)).map(|(stage, _)| *stage).collect();
        for stage in due {
            let tracked = self.jobs.get_mut(&stage).expect("it was just there");
            let Phase::Submit { tries, .. } = tracked.phase else { continue };
            let trouble = match submit(tracked, &self.settings, &self.words) {
                Ok(job) => {
                    tracked.note.job = Some(job);
                    // Unwritten, the next run finds it by its name.
                    _ = tracked.note.write(&tracked.folder);
                    (tracked.phase, tracked.since) = (Phase::Watch, Instant::now());
                    self.ask_at = self.ask_at.min(tracked.since + ASK_SOON);
                    continue;
                }
                Err(error) => error,
            };
            let text = format!("{trouble:#}");
            let has_tries = tries + 1 < MOST_TRIES || text.contains(QUEUE_FULL);
            if has_tries && FOR_NOW.iter().any(|sign| text.contains(sign)) {
                // It may have been taken all the same.
                (tracked.phase, tracked.since) = (Phase::Find { tries: tries + 1 }, Instant::now());
                self.ask_at = self.ask_at.min(tracked.since + ASK_SOON);
                let what = format!("the job of `{}` was not taken: {text}", tracked.ask.stage);
                tracked
                    .tell(Message::Trouble(Fault::new(what, "it is submitted again, unless the queue has it").into()));
            } else {
                let hint = bam_contract::fault::hint_of(&trouble).map(ToOwned::to_owned);
                tracked.tell_end(Some(text), hint);
                self.jobs.remove(&stage);
            }
        }
    }

    /// Hears workers, and of their ends.
    fn listen(&mut self) {
        for tracked in self.jobs.values_mut() {
            if let Phase::Submit { .. } = tracked.phase {
                continue;
            }
            tracked.listen();
            tracked.look_for_end();
        }
    }

    /// Asks the queue when it is time to, and takes in what it said.
    fn ask_queue(&mut self) {
        if let Some(asking) = &mut self.asking {
            let Some(answer) = asking.answer() else { return };
            let since = asking.started;
            self.asking = None;
            let jobs = match answer.trouble {
                Some(trouble) => Err(trouble),
                None => queue::read(&answer.stdout).map_err(|error| format!("{error:#}")),
            };
            match jobs {
                Ok(jobs) => {
                    self.failures = 0;
                    self.take_in(&jobs, since);
                    let is_wanted = self
                        .jobs
                        .values()
                        .any(|tracked| tracked.wants_word() || matches!(tracked.phase, Phase::Find { .. }));
                    let pause = self.settings.poll.0;
                    self.ask_at = Instant::now() + if is_wanted { pause.min(ASK_SOON) } else { pause };
                }
                Err(trouble) => self.unanswered(&trouble),
            }
            return;
        }
        let is_any = self.jobs.values().any(|tracked| !matches!(tracked.phase, Phase::Submit { .. }));
        if is_any && self.ask_at <= Instant::now() {
            match Asking::start("squeue", &queue::ARGUMENTS.map(ToOwned::to_owned), PATIENCE) {
                Ok(asking) => self.asking = Some(asking),
                Err(error) => self.unanswered(&format!("{error:#}")),
            }
        }
    }

    /// Waits longer each time, and says so the first.
    fn unanswered(&mut self, trouble: &str) {
        let pause = self.settings.poll.0 * 2_u32.pow(self.failures.min(10));
        self.ask_at = Instant::now() + pause.min(ASK_AT_MOST.max(self.settings.poll.0));
        self.failures += 1;
        if self.failures == 1
            && let Some(tracked) = self.jobs.values().next()
        {
            let hint =
                "jobs go on meanwhile, and what they report is heard; the queue is asked again, less and less often";
            tracked.tell(Message::Trouble(Fault::new(format!("the queue cannot be asked: {trouble}"), hint).into()));
        }
    }

    /// Takes in an answer of the queue to a question of `since`.
    fn take_in(&mut self, jobs: &BTreeMap<u64, QueueJob>, since: Instant) {
        let mut to_stop = Vec::new();
        for tracked in self.jobs.values_mut().filter(|tracked| tracked.since < since) {
            match (tracked.phase, tracked.note.job) {
                (Phase::Submit { .. }, _) => {}
                (Phase::Find { tries }, _) => {
                    if let Some(found) = jobs.values().find(|job| job.name == tracked.note.name) {
                        tracked.note.job = Some(found.queued.job);
                        _ = tracked.note.write(&tracked.folder);
                        tracked.phase = Phase::Watch;
                        tracked.see(found);
                        to_stop.extend(tracked.is_asked.then_some(tracked.stage));
                    } else if tracked.is_asked {
                        to_stop.push(tracked.stage);
                        tracked.phase = Phase::Submit { at: Instant::now(), tries };
                    } else if tracked.has_run() {
                        tracked.phase = Phase::Watch;
                    } else {
                        let pause = if tries == 0 { Duration::ZERO } else { self.settings.poll.0 * 2_u32.pow(tries) };
                        tracked.phase = Phase::Submit { at: Instant::now() + pause.min(ASK_AT_MOST), tries };
                    }
                }
                (Phase::Watch, job) => match job.and_then(|job| jobs.get(&job)) {
                    Some(found) => tracked.see(found),
                    None => {
                        if tracked.miss()
                            && let Some(job) = job
                        {
                            tracked.account(accounted(job));
                        }
                    }
                },
            }
        }
        for stage in to_stop {
            if let Some(tracked) = self.jobs.get_mut(&stage) {
                tracked.is_asked = false;
                self.stop(stage, false);
            }
        }
    }

    /// Decides about the jobs that have ended.
    fn judge(&mut self) {
        let stages: Vec<usize> = self.jobs.keys().copied().collect();
        for stage in stages {
            let tracked = self.jobs.get_mut(&stage).expect("it was just there");
            if !matches!(tracked.phase, Phase::Watch) {
                continue;
            }
            match tracked.verdict(&self.settings) {
                Verdict::Wait => {
                    if tracked.wants_word() && self.failures == 0 {
                        self.ask_at = self.ask_at.min(Instant::now() + ASK_SOON);
                    }
                }
                Verdict::Ended => {
                    tracked.tell_end(None, None);
                    self.jobs.remove(&stage);
                }
                Verdict::Failed { trouble, hint } => {
                    tracked.tell_end(Some(trouble), hint);
                    self.jobs.remove(&stage);
                }
                Verdict::Again { why, is_lost } => {
                    if let Err(error) = tracked.again(why, is_lost) {
                        tracked.tell_end(Some(format!("{error:#}")), None);
                        self.jobs.remove(&stage);
                    }
                }
            }
        }
    }
}

/// Submits a job; returns its number.
fn submit(tracked: &mut Tracked, settings: &Settings, words: &[String]) -> anyhow::Result<u64> {
    let files = tracked.files();
    let attempt = tracked.folder.file_name().unwrap_or_default().to_string_lossy();
    tracked.note.name = format!("bam:{}:{attempt}.{}", tracked.ask.stage, tracked.note.number);
    tracked.note.write(&tracked.folder)?;
    let own = [tracked.folder.display().to_string(), tracked.note.number.to_string()];
    let words: Vec<String> = words.iter().chain(&own).cloned().collect();
    files.prepare(&tracked.call, &script::script(&tracked.ask.stage, settings, &words))?;
    let here: PathBuf = std::env::current_dir()?;
    let arguments = tracked.ask.arguments(settings, &tracked.note.name, &files, &here);
    let answer = ask("sbatch", &arguments, PATIENCE)?;
    if let Some(trouble) = answer.trouble {
        let hint = "the profile's `partition`, `account`, `qos`, `limits` and `options` are what it is asked for";
        return Err(Fault::new(trouble, hint).into());
    }
    // `7`, or `7;cluster`.
    let said = String::from_utf8_lossy(&answer.stdout).into_owned();
    let number = said.trim().split(';').next().and_then(|number| number.parse().ok());
    number.ok_or_else(|| {
        Fault::new(format!("`sbatch` named no job, but said: {}", said.trim()), "is it Slurm's own?").into()
    })
}

/// Cancels jobs, or signals them. Where it fails the job had ended, or ends by itself; the queue tells.
fn cancel(arguments: &[String]) {
    let quiet = std::iter::once("--quiet".to_owned()).chain(arguments.iter().cloned());
    _ = ask("scancel", &quiet.collect::<Vec<_>>(), PATIENCE);
}

/// The state that accounting has of a job, where the cluster keeps one.
fn accounted(job: u64) -> Option<String> {
    let arguments = ["--noheader", "--parsable2", "--allocations", "--format=State"].map(ToOwned::to_owned);
    let arguments: Vec<String> = arguments.into_iter().chain([format!("--jobs={job}")]).collect();
    let answer = ask("sacct", &arguments, PATIENCE).ok().filter(|answer| answer.trouble.is_none())?;
    // `CANCELLED by 1000`
    let said = String::from_utf8_lossy(&answer.stdout).into_owned();
    said.split_whitespace().next().map(ToOwned::to_owned)
}
