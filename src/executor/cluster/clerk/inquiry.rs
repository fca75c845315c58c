//! What the queue is asked, and what its answers change.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use bam_contract::fault::Fault;

use super::super::super::Message;
use super::super::job::JobId;
use super::super::queue::{Cancel, QueueJob};
use super::super::survey::Survey;
use super::super::tracked::Phase;
use super::{ASK_AT_MOST, ASK_SOON, Clerk};

impl Clerk {
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
}
