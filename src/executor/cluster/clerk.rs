//! The one thread that talks to a queue: it submits, follows what workers write, asks how jobs stand now and then, and cancels.

mod inquiry;
mod submission;

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use super::job::JobId;
use super::queue::{Cancel, Queue};
use super::survey::Survey;
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

/// How long what was started waits for more, to be submitted with it: since the last, and since the first. A queue takes a
/// second or more to begin a job anyway.
const GATHER: Duration = Duration::from_millis(250);
const GATHER_AT_MOST: Duration = Duration::from_secs(2);

/// What the engine wants.
#[derive(Debug)]
pub(super) enum Request {
    Track(Box<Tracked>),
    /// Of a stage.
    Stop(usize),
    Kill(usize),
    /// This run has no more to do with the stage's job.
    Leave(usize),
    KillAll,
}

pub(super) struct Clerk {
    queue: Box<dyn Queue>,
    settings: Settings,
    /// The worker's call, but for the attempt's folder and the submission's number.
    words: Vec<String>,
    requests: Receiver<Request>,
    jobs: BTreeMap<usize, Tracked>,
    /// Since when stages gather that are to be submitted together, and when the last one came.
    gathering: Option<(Instant, Instant)>,
    survey: Option<Survey>,
    /// When the queue is asked next, at the latest.
    ask_at: Instant,
    /// How often it gave no answer since it last did.
    failures: u32,
}

impl Clerk {
    pub(super) fn new(
        queue: Box<dyn Queue>,
        settings: Settings,
        words: Vec<String>,
        requests: Receiver<Request>,
    ) -> Self {
        let (jobs, ask_at) = (BTreeMap::new(), Instant::now());
        Self { queue, settings, words, requests, jobs, gathering: None, survey: None, ask_at, failures: 0 }
    }

    /// Works until the engine is gone.
    pub(super) fn work(mut self) {
        loop {
            let look = LOOK_EVERY.max(LOOK_EVERY_PER_JOB * self.jobs.len() as u32).min(LOOK_EVERY_AT_MOST);
            let wait = if self.gathering.is_some() { GATHER.min(look) } else { look };
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
            Request::Track(mut tracked) => {
                if tracked.is_adopted {
                    // Here and not by the loop, which would wait for itself to hear it.
                    tracked.replay();
                    self.ask_at = Instant::now();
                } else {
                    let now = Instant::now();
                    self.gathering.get_or_insert((now, now)).1 = now;
                }
                self.jobs.insert(tracked.stage, *tracked);
            }
            Request::Stop(stage) => self.stop(stage, Cancel::Soon),
            Request::Kill(stage) => self.stop(stage, Cancel::AtOnce),
            Request::Leave(stage) => drop(self.jobs.remove(&stage)),
            Request::KillAll => {
                self.jobs.values_mut().for_each(|job| job.is_asked = true);
                let all: Vec<JobId> = self.jobs.values().filter_map(|job| job.note.job.clone()).collect();
                if !all.is_empty() {
                    self.queue.cancel(&all, Cancel::AtOnce);
                }
            }
        }
    }

    fn stop(&mut self, stage: usize, how: Cancel) {
        let Some(tracked) = self.jobs.get_mut(&stage) else { return };
        if tracked.is_asked && how == Cancel::Soon {
            return;
        }
        tracked.is_asked = true;
        self.ask_at = self.ask_at.min(Instant::now() + ASK_SOON);
        if let Phase::Submit { .. } = tracked.phase {
            tracked.tell_end(Some("it was not submitted yet".to_owned()), None);
            self.jobs.remove(&stage);
        } else if let Some(job) = &tracked.note.job {
            self.queue.cancel(std::slice::from_ref(job), how);
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
