//! The one thread that talks to a queue: it submits, follows what workers write, asks how jobs stand now and then, and cancels.

use std::collections::{BTreeMap, HashMap};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::Result;
use bam_contract::fault::{Fault, hint_of};

use super::super::Message;
use super::ask::Ask;
use super::job::JobId;
use super::queue::{Again, Cancel, Member, Queue, QueueJob, Refusal, name_of_member};
use super::script;
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

/// Submissions of one job that the queue may put off.
const MOST_TRIES: u32 = 8;

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
            Request::Track(tracked) => {
                if tracked.is_adopted {
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

    /// Submits what is due: together what may go together, and alone what was put off before.
    fn submit(&mut self) {
        if self.gathering.is_some_and(|(first, last)| first.elapsed() < GATHER_AT_MOST && last.elapsed() < GATHER) {
            return;
        }
        self.gathering = None;
        let now = Instant::now();
        let (mut fresh, mut put_off) = (Vec::new(), Vec::new());
        for (stage, tracked) in &self.jobs {
            match tracked.phase {
                Phase::Submit { at, tries: 0 } if at <= now => fresh.push(*stage),
                Phase::Submit { at, .. } if at <= now => put_off.push(vec![*stage]),
                _ => {}
            }
        }
        let asks: Vec<&Ask> = fresh.iter().map(|stage| &self.jobs[stage].ask).collect();
        let divided = self.queue.divide(&asks).into_iter();
        let submissions = divided.map(|places| places.into_iter().map(|at| fresh[at]).collect::<Vec<usize>>());
        for stages in submissions.chain(put_off).collect::<Vec<_>>() {
            match self.submit_together(&stages) {
                Ok(jobs) => {
                    let now = Instant::now();
                    for (stage, job) in stages.iter().zip(jobs) {
                        let tracked = self.jobs.get_mut(stage).expect("it was just there");
                        tracked.note.job = Some(job);
                        // Unwritten, the next run finds it by its name.
                        _ = tracked.note.write(&tracked.folder);
                        (tracked.phase, tracked.since) = (Phase::Watch, now);
                    }
                    self.ask_at = self.ask_at.min(now + ASK_SOON);
                }
                Err(refusal) => {
                    let put_off: Vec<bool> = stages.iter().map(|stage| self.is_put_off(*stage, &refusal)).collect();
                    if put_off[0] {
                        self.warn_of(stages[0], &refusal.error);
                    }
                }
            }
        }
    }

    /// Submits the jobs of stages in one go; returns by what they are known. Only who has none is to be submitted.
    fn submit_together(&mut self, stages: &[usize]) -> Result<Vec<JobId>, Refusal> {
        let tracked = |stage: &usize| &self.jobs[stage];
        let (first, more) = (tracked(&stages[0]), stages.len() - 1);
        let attempt = first.folder.file_name().unwrap_or_default().display();
        let and_more = if more > 0 { format!("+{more}") } else { String::new() };
        let name = format!("bam:{}{and_more}:{attempt}.{}", first.ask.stage, first.note.number);
        let first = first.files();
        for (index, stage) in stages.iter().enumerate() {
            let tracked = self.jobs.get_mut(stage).expect("it was just there");
            tracked.note.said = (more > 0).then(|| first.said_of_array(index));
            tracked.note.name = if more > 0 { name_of_member(&name, index) } else { name.clone() };
            tracked.note.write(&tracked.folder)?;
            let own = [tracked.folder.display().to_string(), tracked.note.number.to_string()];
            let words: Vec<String> = self.words.iter().chain(&own).cloned().collect();
            let prelude = self.queue.prelude(&tracked.files());
            let script = script::script(&tracked.ask.stage, &prelude, &self.settings, &words);
            tracked.files().prepare(&tracked.call, &script)?;
        }
        let member = |stage| {
            let tracked: &Tracked = &self.jobs[stage];
            Member { ask: &tracked.ask, files: tracked.files() }
        };
        self.queue.submit(&name, &stages.iter().map(member).collect::<Vec<_>>())
    }

    /// Tells of jobs that were not taken and may be yet, by the first of those that were submitted together.
    fn warn_of(&self, first: usize, error: &anyhow::Error) {
        let tracked = &self.jobs[&first];
        let what = format!("the job of `{}` was not taken: {error:#}", tracked.ask.stage);
        tracked.tell(Message::Trouble(Fault::new(what, "it is submitted again, unless the queue has it").into()));
    }

    /// Puts off a stage whose job was not taken, or else fails it.
    fn is_put_off(&mut self, stage: usize, refusal: &Refusal) -> bool {
        let tracked = self.jobs.get_mut(&stage).expect("it was just there");
        let Phase::Submit { tries, .. } = tracked.phase else { return false };
        let has_tries = match refusal.again {
            Again::Never => false,
            Again::SomeTimes => tries + 1 < MOST_TRIES,
            Again::UntilThereIsRoom => true,
        };
        if !has_tries {
            tracked.tell_end(Some(format!("{:#}", refusal.error)), hint_of(&refusal.error).map(ToOwned::to_owned));
            self.jobs.remove(&stage);
            return false;
        }
        // It may have been taken all the same.
        (tracked.phase, tracked.since) = (Phase::Find { tries: tries + 1 }, Instant::now());
        self.ask_at = self.ask_at.min(tracked.since + ASK_SOON);
        true
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
        if let Some(survey) = &self.survey {
            let Some(answers) = survey.answers() else { return };
            let jobs = answers.and_then(|answers| self.queue.read(&survey.jobs, &answers));
            let since = survey.since;
            self.survey = None;
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
                Err(error) => self.unanswered(&error),
            }
            return;
        }
        let mut asked = self.jobs.values().filter(|tracked| !matches!(tracked.phase, Phase::Submit { .. })).peekable();
        if asked.peek().is_some() && self.ask_at <= Instant::now() {
            let jobs: Vec<JobId> = asked.filter_map(|tracked| tracked.note.job.clone()).collect();
            let questions = self.queue.questions(&jobs);
            match Survey::start(jobs, questions) {
                Ok(survey) => self.survey = Some(survey),
                Err(error) => self.unanswered(&error),
            }
        }
    }

    /// Waits longer each time, and says so the first.
    fn unanswered(&mut self, trouble: &anyhow::Error) {
        let pause = self.settings.poll.0 * 2_u32.pow(self.failures.min(10));
        self.ask_at = Instant::now() + pause.min(ASK_AT_MOST.max(self.settings.poll.0));
        self.failures += 1;
        if self.failures == 1
            && let Some(tracked) = self.jobs.values().next()
        {
            let hint =
                "jobs go on meanwhile, and what they report is heard; the queue is asked again, less and less often";
            tracked.tell(Message::Trouble(Fault::new(format!("the queue cannot be asked: {trouble:#}"), hint).into()));
        }
    }

    /// Takes in an answer of the queue to a question of `since`.
    fn take_in(&mut self, jobs: &[QueueJob], since: Instant) {
        let by_id: BTreeMap<&JobId, &QueueJob> = jobs.iter().map(|job| (&job.queued.job, job)).collect();
        // A queue that tells no names has none found by them.
        let named = jobs.iter().filter(|job| !job.name.is_empty());
        let by_name: HashMap<&str, &QueueJob> = named.map(|job| (job.name.as_str(), job)).collect();
        let mut to_stop = Vec::new();
        for tracked in self.jobs.values_mut().filter(|tracked| tracked.since < since) {
            match tracked.phase {
                Phase::Submit { .. } => {}
                Phase::Find { tries } => {
                    if let Some(found) = by_name.get(tracked.note.name.as_str()) {
                        tracked.note.job = Some(found.queued.job.clone());
                        _ = tracked.note.write(&tracked.folder);
                        tracked.phase = Phase::Watch;
                        tracked.see(found);
                        to_stop.extend(tracked.is_asked.then_some(tracked.stage));
                    } else if tracked.has_run() && !tracked.is_asked {
                        tracked.phase = Phase::Watch;
                    } else {
                        to_stop.extend(tracked.is_asked.then_some(tracked.stage));
                        let pause = if tries == 0 { Duration::ZERO } else { self.settings.poll.0 * 2_u32.pow(tries) };
                        tracked.renumber(Instant::now() + pause.min(ASK_AT_MOST), tries);
                    }
                }
                Phase::Watch => match tracked.note.job.as_ref().and_then(|job| by_id.get(job)) {
                    Some(found) => tracked.see(found),
                    None => {
                        if tracked.miss()
                            && let Some(job) = &tracked.note.job
                        {
                            tracked.account(self.queue.accounted(job));
                        }
                    }
                },
            }
        }
        for stage in to_stop {
            if let Some(tracked) = self.jobs.get_mut(&stage) {
                tracked.is_asked = false;
                self.stop(stage, Cancel::Soon);
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
