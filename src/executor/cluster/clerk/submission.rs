//! How jobs are submitted, and what becomes of those that the queue does not take.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bam_contract::fault::{Fault, hint_of};

use super::super::super::Message;
use super::super::ask::Ask;
use super::super::job::JobId;
use super::super::queue::{Again, Member, Refusal, name_of_member};
use super::super::script;
use super::super::tracked::{Phase, Tracked};
use super::{ASK_AT_MOST, ASK_SOON, Clerk, GATHER, GATHER_AT_MOST};
use crate::span::Span;

/// Submissions of one job that the queue may not answer.
const MOST_TRIES: u32 = 8;

/// What becomes of a job that was not taken.
const AGAIN: &str = "it is submitted again, unless the queue has it";

impl Clerk {
    /// Submits what is due, together what may go together. Where the queue has no room for as many, it is asked to take half of
    /// them, and the rest waits.
    pub(super) fn submit(&mut self) {
        let now = Instant::now();
        let gathers = |(first, last): (Instant, Instant)| first.elapsed() < GATHER_AT_MOST && last.elapsed() < GATHER;
        if self.gathering.is_some_and(gathers) || self.full.is_some_and(|(until, _)| now < until) {
            return;
        }
        self.gathering = None;
        let is_due = |tracked: &&Tracked| matches!(tracked.phase, Phase::Submit { .. });
        let due: Vec<&Tracked> = self.jobs.values().filter(is_due).collect();
        let asks: Vec<&Ask> = due.iter().map(|tracked| &tracked.ask).collect();
        let divided = self.queue.divide(&asks).into_iter();
        let mut submissions: VecDeque<Vec<usize>> =
            divided.map(|places| places.into_iter().map(|at| due[at].stage).collect()).collect();
        while let Some(mut stages) = submissions.pop_front() {
            // What is to end is not submitted first.
            self.hear();
            if self.is_told_to_end() {
                return;
            }
            stages.retain(|stage| self.jobs[stage].take_claim());
            let Some(first) = stages.first().copied() else { continue };
            match self.submit_together(&stages) {
                Ok(jobs) => self.taken(&stages, jobs),
                Err(Refusal { error, again: Again::UntilThereIsRoom }) => {
                    for stage in &stages {
                        self.jobs[stage].unclaim();
                    }
                    if stages.len() == 1 {
                        return self.wait_for_room(first, &error);
                    }
                    let rest = stages.split_off(stages.len().div_ceil(2));
                    submissions.push_front(rest);
                    submissions.push_front(stages);
                }
                Err(refusal @ Refusal { again: Again::SomeTimes | Again::WhenItIsBack, .. }) => {
                    self.warn_of_try(first, &refusal);
                    let refusal = Arc::new(refusal);
                    for stage in stages {
                        self.find(stage, &refusal);
                    }
                }
                Err(Refusal { error, again: Again::Never }) => {
                    for mut tracked in stages.iter().filter_map(|stage| self.jobs.remove(stage)) {
                        tracked.tell_end(Some(format!("{error:#}")), hint_of(&error).map(ToOwned::to_owned));
                    }
                }
            }
        }
    }

    fn taken(&mut self, stages: &[usize], jobs: Vec<JobId>) {
        let now = Instant::now();
        for (stage, job) in stages.iter().zip(jobs) {
            let tracked = self.jobs.get_mut(stage).expect("it was just there");
            tracked.note.job = Some(job);
            // Unwritten, the next run finds it by its name.
            _ = tracked.note.write(&tracked.folder);
            (tracked.phase, tracked.since) = (Phase::Watch, now);
        }
        self.full = None;
        self.ask_at = self.ask_at.min(now + ASK_SOON);
    }

    /// Submits nothing for a while, since the queue had no room for a stage's job.
    fn wait_for_room(&mut self, stage: usize, error: &anyhow::Error) {
        let times = self.full.map_or(0, |(_, times)| times);
        if times == 0 {
            self.warn_of(stage, error, "", AGAIN);
        }
        self.full = Some((Instant::now() + self.pause(times + 1), times + 1));
    }

    /// Between two tries, longer each time.
    fn pause(&self, tries: u32) -> Duration {
        (self.settings.poll.0 * 2_u32.pow(tries.min(10))).min(ASK_AT_MOST)
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
            tracked.note.asked = tracked.ask.request(&self.settings);
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
    fn warn_of(&self, first: usize, error: &anyhow::Error, which: &str, hint: &str) {
        let tracked = &self.jobs[&first];
        let what = format!("the job of `{}` was not taken{which}: {error:#}", tracked.ask.stage);
        tracked.tell(Message::Trouble(Fault::new(what, hint).into()));
    }

    /// The same where tries are counted.
    fn warn_of_try(&self, first: usize, Refusal { error, again }: &Refusal) {
        let Phase::Submit { tries } = self.jobs[&first].phase else { return };
        let number = tries + 1;
        let pause = Span(self.pause(number));
        let (next, then) = match again {
            _ if number >= MOST_TRIES => ("the last".to_owned(), "the queue is asked once more whether it has it"),
            Again::WhenItIsBack => (format!("the next in {pause}"), AGAIN),
            // The queue is asked before whether it has it, and may not answer.
            _ => (format!("the next in {pause} at the earliest"), AGAIN),
        };
        let own = hint_of(error).map(|hint| format!("{hint}; ")).unwrap_or_default();
        let hint = format!("{own}{then}");
        self.warn_of(first, error, &format!(", try {number} of {MOST_TRIES}, {next}"), &hint);
    }

    /// Has it found out whether the queue took a stage's job all the same, for as long as it waits for its next try.
    fn find(&mut self, stage: usize, refusal: &Arc<Refusal>) {
        let pause = |tries| if tries < MOST_TRIES { self.pause(tries) } else { self.settings.poll.0 };
        let Phase::Submit { tries } = self.jobs[&stage].phase else { return };
        let (now, pause, tries) = (Instant::now(), pause(tries + 1), tries + 1);
        let tracked = self.jobs.get_mut(&stage).expect("it was just there");
        tracked.refused = Some(refusal.clone());
        (tracked.phase, tracked.since) = (Phase::Find { until: now + pause, tries }, now);
        self.ask_at = self.ask_at.min(now + ASK_SOON);
    }

    /// Has jobs submitted anew whose time for that has come and that the queue can't have, though it does not answer.
    pub(super) fn try_again(&mut self) {
        let now = Instant::now();
        let is_due = |tracked: &Tracked| {
            let can_not_be_there = tracked.refused.as_ref().is_some_and(|refused| refused.again == Again::WhenItIsBack);
            can_not_be_there && matches!(tracked.phase, Phase::Find { until, .. } if until <= now)
        };
        let due: Vec<usize> =
            self.jobs.iter().filter(|(_, tracked)| is_due(tracked)).map(|(stage, _)| *stage).collect();
        for stage in due {
            self.give_up_finding(stage);
        }
    }

    /// Gives up finding a stage's job, for the queue doesn't have it: it is submitted anew, unless that was tried often or it is
    /// to end.
    pub(super) fn give_up_finding(&mut self, stage: usize) {
        let Some(tracked) = self.jobs.get_mut(&stage) else { return };
        let Phase::Find { tries, .. } = tracked.phase else { return };
        if tracked.asked.is_none() && tries < MOST_TRIES {
            return tracked.renumber(tries);
        }
        let (trouble, hint) = match tracked.refused.take().filter(|_| tracked.asked.is_none()) {
            Some(refused) => (format!("{:#}", refused.error), hint_of(&refused.error).map(ToOwned::to_owned)),
            None => ("it was not submitted".to_owned(), None),
        };
        tracked.tell_end(Some(trouble), hint);
        self.jobs.remove(&stage);
    }
}
