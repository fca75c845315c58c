//! The one thread that talks to a queue: it submits, follows what workers write, asks how jobs stand now and then, and cancels.

mod ending;
mod inquiry;
mod submission;

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::time::{Duration, Instant};

use bam_contract::fault::Fault;

use super::super::Message;
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
    Kill(usize),
    StopAll,
    /// This run has no more to do with the stage's job.
    Leave(usize),
    /// Says then how many jobs the queue could not be told of.
    KillAll(SyncSender<usize>),
}

pub(super) struct Clerk {
    queue: Box<dyn Queue>,
    settings: Settings,
    /// The worker's call, but for the attempt's folder and the submission's number.
    words: Vec<String>,
    requests: Receiver<Request>,
    /// What was heard of them, and not heeded yet.
    heard: Vec<Request>,
    jobs: BTreeMap<usize, Tracked>,
    /// Since when stages gather that are to be submitted together, and when the last one came.
    gathering: Option<(Instant, Instant)>,
    /// Until when nothing is submitted since the queue was full, and how often it was in a row.
    full: Option<(Instant, u32)>,
    survey: Option<Survey>,
    /// What accounting is asked.
    accounting: Option<Survey>,
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
        Self {
            queue,
            settings,
            words,
            requests,
            heard: Vec::new(),
            jobs: BTreeMap::new(),
            gathering: None,
            full: None,
            survey: None,
            accounting: None,
            ask_at: Instant::now(),
            failures: 0,
        }
    }

    /// Works until the engine is gone.
    pub(super) fn work(mut self) {
        loop {
            let look = LOOK_EVERY.max(LOOK_EVERY_PER_JOB * self.jobs.len() as u32).min(LOOK_EVERY_AT_MOST);
            let wait = if self.gathering.is_some() { GATHER.min(look) } else { look };
            let first = if !self.heard.is_empty() {
                Err(RecvTimeoutError::Timeout)
            } else if self.jobs.is_empty() {
                self.requests.recv().map_err(RecvTimeoutError::from)
            } else {
                self.requests.recv_timeout(wait)
            };
            match first {
                Ok(request) => self.heard.push(request),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            self.hear();
            self.heed();
            self.ask_queue();
            self.ask_accounts();
            self.try_again();
            self.submit();
            self.listen();
            self.judge();
        }
    }

    /// Takes what the engine has said meanwhile.
    fn hear(&mut self) {
        self.heard.extend(self.requests.try_iter());
    }

    /// Does what was heard, with as few calls as that takes: what is to end is told so together, and first what is to end at once.
    fn heed(&mut self) {
        let (mut all_soon, mut at_once, mut replies) = (false, Vec::new(), Vec::new());
        for request in std::mem::take(&mut self.heard) {
            match request {
                Request::Track(tracked) => self.track(*tracked),
                Request::Kill(stage) => at_once.push(stage),
                Request::StopAll => all_soon = true,
                Request::Leave(stage) => drop(self.jobs.remove(&stage)),
                Request::KillAll(reply) => replies.push(reply),
            }
        }
        let all: Vec<usize> = self.jobs.keys().copied().collect();
        if !replies.is_empty() {
            at_once.clone_from(&all);
        }
        let unreached = self.stop(&at_once, Cancel::AtOnce);
        for reply in replies {
            _ = reply.try_send(unreached);
        }
        if all_soon {
            self.stop(&all, Cancel::Soon);
        }
    }

    fn track(&mut self, mut tracked: Tracked) {
        let now = Instant::now();
        if tracked.is_adopted {
            // Here and not by the loop, which would wait for itself to hear it.
            tracked.replay();
            self.compare_requests(&tracked);
            self.ask_at = now;
        } else {
            self.gathering.get_or_insert((now, now)).1 = now;
        }
        self.jobs.insert(tracked.stage, tracked);
    }

    /// Tells of a job that was submitted asking for something else than it would now: it stays as it is.
    fn compare_requests(&self, tracked: &Tracked) {
        let (asked, now) = (&tracked.note.asked, tracked.ask.request(&self.settings));
        let differs = |(name, value): (&String, &String)| {
            let before = asked.get(name).filter(|before| *before != value)?;
            Some(format!("{name} {before}, and not {value}"))
        };
        let differences: Vec<String> = now.iter().filter_map(differs).collect();
        if !differences.is_empty() {
            let what = format!(
                "the job of `{}` is the one submitted before, with {}",
                tracked.ask.stage,
                differences.join("; ")
            );
            let hint = "cancel it in the queue (`scancel`) and run again, and it is submitted as the files say now";
            tracked.tell(Message::Trouble(Fault::new(what, hint).into()));
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
