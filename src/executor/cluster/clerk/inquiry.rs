//! What the queue is asked, and what its answers change.

use std::collections::{BTreeMap, HashMap};
use std::time::Instant;

use bam_contract::fault::Fault;

use super::super::super::Message;
use super::super::job::JobId;
use super::super::queue::{Cancel, QueueJob};
use super::super::survey::Survey;
use super::super::tracked::{Phase, Tracked};
use super::{ASK_AT_MOST, ASK_SOON, Clerk};

impl Clerk {
    /// Asks the queue when it is time to, and takes in what it said.
    pub(super) fn ask_queue(&mut self) {
        if let Some(survey) = &self.survey {
            let Some(answers) = survey.answers() else { return };
            let jobs = answers.and_then(|answers| self.queue.read(&survey.jobs, &answers));
            let since = survey.since;
            self.survey = None;
            match jobs {
                Ok(jobs) => {
                    self.failures = 0;
                    self.take_in(&jobs, since);
                    self.stop_again();
                    self.ask_at = self.next_question();
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

    /// When the queue is asked next, after it has answered.
    fn next_question(&self) -> Instant {
        let now = Instant::now();
        let when = |tracked: &Tracked| match tracked.phase {
            Phase::Find { until, .. } => until.max(now),
            _ if tracked.wants_word() => now + ASK_SOON,
            _ => now + self.settings.poll.0,
        };
        self.jobs.values().map(when).min().unwrap_or(now).min(now + self.settings.poll.0)
    }

    /// Asks accounting about jobs that the queue forgot, and takes in what it said.
    pub(super) fn ask_accounts(&mut self) {
        if let Some(survey) = &self.accounting {
            let Some(answers) = survey.answers() else { return };
            let answer = answers.ok().and_then(|answers| answers.into_iter().next());
            let known =
                answer.filter(|answer| answer.trouble.is_none()).map(|answer| self.queue.read_accounts(&answer));
            let known = known.unwrap_or_default();
            for tracked in self.jobs.values_mut() {
                if let Some(job) = tracked.note.job.clone().filter(|job| survey.jobs.contains(job)) {
                    tracked.account(known.get(&job).cloned());
                }
            }
            self.accounting = None;
        }
        let mut jobs = Vec::new();
        for tracked in self.jobs.values_mut().filter(|tracked| tracked.wants_account()) {
            match &tracked.note.job {
                Some(job) => jobs.push(job.clone()),
                None => tracked.account(None),
            }
        }
        if jobs.is_empty() {
            return;
        }
        let question = self.queue.question_of_accounts(&jobs);
        self.accounting = question.and_then(|question| Survey::start(jobs, vec![question]).ok());
        if self.accounting.is_none() {
            self.jobs.values_mut().filter(|tracked| tracked.wants_account()).for_each(|tracked| tracked.account(None));
        }
    }

    /// Takes in an answer of the queue to a question of `since`.
    fn take_in(&mut self, jobs: &[QueueJob], since: Instant) {
        let by_id: BTreeMap<&JobId, &QueueJob> = jobs.iter().map(|job| (&job.queued.job, job)).collect();
        // A queue that tells no names has none found by them.
        let named = jobs.iter().filter(|job| !job.name.is_empty());
        let by_name: HashMap<&str, &QueueJob> = named.map(|job| (job.name.as_str(), job)).collect();
        let tells_names = self.queue.tells_names();
        let (mut not_wanted, mut lost_sight_of, mut to_stop) = (Vec::new(), Vec::new(), Vec::new());
        for tracked in self.jobs.values_mut() {
            let given_up = tracked.note.given_up.iter().filter_map(|name| by_name.get(name.as_str()));
            not_wanted.extend(given_up.filter(|job| !job.has_ended()).map(|job| job.queued.job.clone()));
            if tracked.since >= since {
                continue;
            }
            // Numbers begin anew when a queue does; so a name must be right too.
            let is_named = |found: &&&QueueJob| found.name.is_empty() || found.name == tracked.note.name;
            let by_number = tracked.note.job.as_ref().and_then(|job| by_id.get(job)).filter(is_named);
            let found = by_number.or_else(|| by_name.get(tracked.note.name.as_str())).copied();
            match (tracked.phase, found) {
                (Phase::Submit { .. }, _) => {}
                (Phase::Find { .. } | Phase::Watch, Some(found)) => {
                    if tracked.note.job.as_ref() != Some(&found.queued.job) {
                        tracked.note.job = Some(found.queued.job.clone());
                        _ = tracked.note.write(&tracked.folder);
                        to_stop.extend(tracked.asked.take().map(|(how, _)| (tracked.stage, how)));
                    }
                    tracked.phase = Phase::Watch;
                    tracked.see(found);
                }
                (Phase::Find { .. }, None) if tracked.has_run() => {
                    tracked.phase = Phase::Watch;
                    if !tells_names {
                        tracked.tell_unknown();
                        to_stop.extend(tracked.asked.take().map(|(how, _)| (tracked.stage, how)));
                    }
                }
                (Phase::Find { until, .. }, None) => lost_sight_of.extend((until <= since).then_some(tracked.stage)),
                // Of one that is known by nothing the queue says nothing.
                (Phase::Watch, None) if tracked.note.job.is_none() && !tells_names => {}
                (Phase::Watch, None) => tracked.miss(),
            }
        }
        if !not_wanted.is_empty() {
            self.queue.cancel(&not_wanted, Cancel::AtOnce);
        }
        for how in [Cancel::AtOnce, Cancel::Soon] {
            let stages: Vec<usize> =
                to_stop.iter().filter(|(_, asked)| *asked == how).map(|(stage, _)| *stage).collect();
            self.stop(&stages, how);
        }
        for stage in lost_sight_of {
            self.give_up_finding(stage);
        }
    }
}
