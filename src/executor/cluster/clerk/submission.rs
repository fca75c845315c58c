//! How jobs are submitted, and what becomes of those that the queue does not take.

use std::time::Instant;

use bam_contract::fault::{Fault, hint_of};

use super::super::super::Message;
use super::super::ask::Ask;
use super::super::job::JobId;
use super::super::queue::{Again, Member, Refusal, name_of_member};
use super::super::script;
use super::super::tracked::{Phase, Tracked};
use super::{ASK_SOON, Clerk, GATHER, GATHER_AT_MOST};

/// Submissions of one job that the queue may put off.
const MOST_TRIES: u32 = 8;

impl Clerk {
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
}
