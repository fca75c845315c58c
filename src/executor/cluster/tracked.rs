//! One stage as a job: from its first submission to its end, over as many jobs as that takes.

mod heard;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

use bam_contract::event::Event;
use bam_contract::fault::Fault;

use super::super::{Elsewhere, End, Message, Queued};
use super::ask::Ask;
use super::files::{Call, Files, NodeEnd, Note};
use super::queue::{Cancel, QueueJob, Refusal};
use super::verdict::{Known, Standing, Verdict, Watched};
use crate::profile::Settings;

/// Answers of the queue without a job after which it is gone.
const MOST_MISSING: u32 = 2;

/// A stage and its job.
#[derive(Debug)]
pub(super) struct Tracked {
    /// Index of the stage.
    pub(super) stage: usize,
    pub(super) folder: PathBuf,
    pub(super) ask: Ask,
    pub(super) call: Call,
    pub(super) note: Note,
    /// Where the stage keeps a state that it can go on from.
    pub(super) resume: PathBuf,
    pub(super) messages: SyncSender<Message>,
    pub(super) phase: Phase,
    /// Whether this run wants it to end, how, and when it last said so.
    pub(super) asked: Option<(Cancel, Instant)>,
    /// Whether it may have ended while nobody watched.
    pub(super) is_adopted: bool,
    /// Whether the queue may have it. Who takes this first decides: the clerk, who submits it then, or who leaves it.
    pub(super) claim: Arc<AtomicBool>,
    /// Why it was last not taken, if that may change.
    pub(super) refused: Option<Arc<Refusal>>,
    /// When its number was last learnt: what the queue said before counts for nothing.
    pub(super) since: Instant,
    /// How much of the events was read.
    read_bytes: u64,
    last: Option<Event>,
    told: Option<Queued>,
    missing: u32,
    end: Option<NodeEnd>,
    in_queue: Option<QueueJob>,
    account: Account,
    /// When its end was first known.
    ended_at: Option<Instant>,
    /// When the file system was last made to look anew.
    refreshed: Option<Instant>,
}

/// What accounting says of a job that is gone.
#[derive(Debug)]
enum Account {
    NotAsked,
    /// The state that it has of it, if any.
    Asked(Option<String>),
}

/// What is to be done about it next.
#[derive(Clone, Copy, Debug)]
pub(super) enum Phase {
    /// Submit it. So many times it was tried in vain.
    Submit { tries: u32 },
    /// Find out whether it was submitted: if the queue doesn't have it then, it is submitted anew.
    Find { until: Instant, tries: u32 },
    /// Wait for its end.
    Watch,
}

impl Tracked {
    pub(super) fn new(
        stage: usize,
        folder: PathBuf,
        (ask, call, note): (Ask, Call, Note),
        resume: PathBuf,
        messages: SyncSender<Message>,
    ) -> Self {
        let now = Instant::now();
        Self {
            stage,
            folder,
            ask,
            call,
            note,
            resume,
            messages,
            phase: Phase::Submit { tries: 0 },
            asked: None,
            is_adopted: false,
            claim: Arc::default(),
            refused: None,
            since: now,
            read_bytes: 0,
            last: None,
            told: None,
            missing: 0,
            end: None,
            in_queue: None,
            account: Account::NotAsked,
            ended_at: None,
            refreshed: None,
        }
    }

    pub(super) fn files(&self) -> Files {
        Files::of(&self.folder, &self.note)
    }

    /// Says something to the run; it is gone only when the engine is ending.
    pub(super) fn tell(&self, message: Message) {
        drop(self.messages.send(message));
    }

    /// Takes it for submitting; false if the run has left it by then.
    pub(super) fn take_claim(&self) -> bool {
        self.claim.compare_exchange(false, true, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// Gives it back, where the queue has not taken it.
    pub(super) fn unclaim(&self) {
        self.claim.store(false, Ordering::Release);
    }

    /// Whether the queue's word would help to judge an end that the node told of.
    pub(super) fn wants_word(&self) -> bool {
        self.asked.is_some() || self.ended_at.is_some()
    }

    /// Takes in what the queue says of its job.
    pub(super) fn see(&mut self, job: &QueueJob) {
        self.missing = 0;
        self.account = Account::NotAsked;
        if self.told.as_ref() != Some(&job.queued) {
            self.told = Some(job.queued.clone());
            self.tell(Message::Queued { stage: self.stage, queued: job.queued.clone() });
        }
        if job.has_ended() {
            self.ended_at.get_or_insert_with(Instant::now);
        } else {
            self.is_adopted = false;
        }
        self.in_queue = Some(job.clone());
    }

    /// Takes in that the queue doesn't know its job.
    pub(super) fn miss(&mut self) {
        self.missing += 1;
        if self.is_gone() {
            self.ended_at.get_or_insert_with(Instant::now);
        }
    }

    fn is_gone(&self) -> bool {
        self.missing >= MOST_MISSING && !self.in_queue.as_ref().is_some_and(QueueJob::has_ended)
    }

    /// Whether accounting is to be asked about it.
    pub(super) fn wants_account(&self) -> bool {
        self.is_gone() && matches!(self.account, Account::NotAsked)
    }

    pub(super) fn account(&mut self, state: Option<String>) {
        self.account = Account::Asked(state);
    }

    /// Whether the queue had it when it was last asked, and not as one that has ended.
    pub(super) fn is_in_queue(&self) -> bool {
        self.missing == 0 && self.in_queue.as_ref().is_some_and(|job| !job.has_ended())
    }

    /// Says that its job is known by nothing but what it writes.
    pub(super) fn tell_unknown(&self) {
        let what = format!("the job of `{}` has begun, and what the queue calls it was never heard", self.ask.stage);
        let hint = format!(
            "its end is waited for; if the queue lost it, stop this run and remove `{}`",
            self.folder.display()
        );
        self.tell(Message::Trouble(Fault::new(what, hint).into()));
    }

    pub(super) fn verdict(&mut self, settings: &Settings) -> Verdict {
        let shows_all = self.shows_all();
        let standing = match &self.in_queue {
            Some(job) if job.has_ended() => Standing::Ended(job),
            _ => match &self.account {
                Account::Asked(state) if self.is_gone() => Standing::Gone(state.as_deref()),
                _ => Standing::Open,
            },
        };
        let known = Known {
            ask: &self.ask,
            settings,
            note: &self.note,
            last: self.last.as_ref(),
            end: self.end.as_ref(),
            shows_all,
            limit: self.in_queue.as_ref().and_then(|job| job.time_limit),
            standing,
            waited: self.ended_at.map_or(Duration::ZERO, |at| at.elapsed()),
            watched: match (self.asked, self.is_adopted) {
                (Some(_), _) => Watched::ToItsEnd,
                (None, true) => Watched::Adopted,
                (None, false) => Watched::Throughout,
            },
            has_kept_state: self.ended_at.is_some() && self.has_kept_state(),
            tells_of_memory: self.ended_at.is_some() && self.files().tells_of_memory(),
        };
        known.verdict()
    }

    /// Tells the run of the end.
    pub(super) fn tell_end(&mut self, trouble: Option<String>, hint: Option<String>) {
        self.files().settle_log();
        // A worker that stopped, and not for this run, has failed: its own word says less than why.
        let is_failed = trouble.is_some();
        let last = self.last.take().filter(|last| !is_failed || !matches!(last, Event::Stopped { .. }));
        let mut trouble = trouble;
        let end = self.end.take();
        if let Some(end) = &end {
            trouble = trouble.or_else(|| end.trouble.clone());
        }
        if trouble.is_none()
            && let Err(error) = self.files().settle_output()
        {
            trouble = Some(format!("what the stage made cannot be moved: {error}"));
        }
        if let Some(event) = last {
            self.tell(Message::Event { stage: self.stage, event: event.in_plain_words() });
        }
        let elsewhere = end.as_ref().map(|end| {
            Box::new(Elsewhere { host: end.host.clone(), wall_secs: end.wall_secs, jobs: self.note.jobs() })
        });
        let peak_memory_bytes = end.map_or(0, |end| end.peak_memory_bytes);
        let end = End { trouble, hint, peak_memory_bytes, at: Instant::now(), elsewhere };
        self.tell(Message::Ended { stage: self.stage, end });
    }

    /// Has it submitted anew, under another number: should a job of the one it had have been taken all the same, that has files
    /// of its own.
    pub(super) fn renumber(&mut self, tries: u32) {
        self.note.number += 1;
        self.note.given_up.push(std::mem::take(&mut self.note.name));
        // Unwritten, the next run looks for it by the name it had.
        _ = self.note.write(&self.folder);
        self.unclaim();
        self.phase = Phase::Submit { tries };
    }

    /// Makes it ready for another submission.
    pub(super) fn again(&mut self, why: String, is_lost: bool) -> anyhow::Result<()> {
        self.files().settle_log();
        let has_kept_state = self.has_kept_state();
        let note = &mut self.note;
        note.number += 1;
        note.earlier.extend(note.job.take());
        // The next run would find the job that has ended by it.
        note.name.clear();
        note.said = None;
        note.lost = match (is_lost, has_kept_state) {
            (true, false) => note.lost + 1,
            (true, true) => 1,
            (false, _) => 0,
        };
        if let Some(Event::Stopped { summary }) = self.last.take() {
            note.stopped_at = Some(summary);
        }
        let fresh = Self::new(
            self.stage,
            std::mem::take(&mut self.folder),
            (self.ask.clone(), self.call.clone(), std::mem::take(note)),
            std::mem::take(&mut self.resume),
            self.messages.clone(),
        );
        let claim = std::mem::take(&mut self.claim);
        *self = Self { claim, ..fresh };
        self.unclaim();
        self.tell(Message::Requeued { stage: self.stage, why });
        self.note.write(&self.folder)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    fn tracked(folder: &tempfile::TempDir, note: Note) -> Tracked {
        let ask = Ask {
            stage: "teacher".to_owned(),
            kind: "train".to_owned(),
            cpus: 1,
            memory_bytes: 0,
            is_memory_known: true,
            gpus: 0,
            time: None,
        };
        let call = Call { program: None, threads: 1, sees_gpus: false, scratch: None };
        let resume = folder.path().join("resume");
        Tracked::new(0, folder.path().to_owned(), (ask, call, note), resume, mpsc::sync_channel(8).0)
    }

    #[test]
    fn words_that_are_not_seen_yet_are_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let mut tracked = tracked(&folder, Note { number: 1, ..Note::default() });
        let failed = r#"{"event": "failed", "causes": ["no rows"], "hint": null}"#.to_owned() + "\n";
        let end = serde_json::json!({
            "trouble": "exit code 1", "peak_memory_bytes": 0, "wall_secs": 1.0, "host": "n1", "is_signalled": false,
            "events_bytes": failed.len(),
        });
        std::fs::write(tracked.files().end(), end.to_string()).unwrap();
        std::fs::write(tracked.files().events(), "").unwrap();
        assert!(tracked.look_for_end());
        assert!(!tracked.shows_all());
        std::fs::write(tracked.files().events(), failed).unwrap();
        assert!(!tracked.shows_all(), "they are heard now");
        assert!(tracked.shows_all() && matches!(tracked.last, Some(Event::Failed { .. })));
    }

    #[test]
    fn a_job_that_ended_is_not_taken_for_the_one_to_come() {
        let folder = tempfile::tempdir().unwrap();
        let note = Note { number: 1, name: "bam:teacher:f.a.1".to_owned(), job: Some(7.into()), ..Note::default() };
        let mut tracked = tracked(&folder, note);
        tracked.again("it lost its node".to_owned(), true).unwrap();
        let note = Note::read(folder.path()).unwrap();
        assert_eq!((note.number, note.name.as_str(), &note.job), (2, "", &None));
        assert_eq!(note.jobs(), [7.into()]);
    }
}
