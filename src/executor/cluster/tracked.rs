//! One stage as a job: from its first submission to its end, over as many jobs as that takes.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Seek as _, SeekFrom};
use std::path::PathBuf;
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant, SystemTime};

use bam_contract::event::Event;

use super::super::{Elsewhere, End, Message, Queued};
use super::ask::Ask;
use super::files::{Call, Files, NodeEnd, Note};
use super::queue::QueueJob;
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
    /// Whether this run wants it to end, and whether at once.
    pub(super) is_asked: bool,
    pub(super) is_adopted: bool,
    /// When its number was last learnt: what the queue said before counts for nothing.
    pub(super) since: Instant,
    submitted: SystemTime,
    /// How much of the events was read.
    read_bytes: u64,
    last: Option<Event>,
    told: Option<Queued>,
    missing: u32,
    end: Option<NodeEnd>,
    in_queue: Option<QueueJob>,
    /// What accounting says of one that is gone.
    accounted: Option<String>,
    /// When its end was first known.
    ended_at: Option<Instant>,
}

/// What is to be done about it next.
#[derive(Clone, Copy, Debug)]
pub(super) enum Phase {
    /// Submit it, then. So many times it was tried in vain.
    Submit { at: Instant, tries: u32 },
    /// Find out from the queue whether it was submitted.
    Find { tries: u32 },
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
            phase: Phase::Submit { at: now, tries: 0 },
            is_asked: false,
            is_adopted: false,
            since: now,
            submitted: SystemTime::now(),
            read_bytes: 0,
            last: None,
            told: None,
            missing: 0,
            end: None,
            in_queue: None,
            accounted: None,
            ended_at: None,
        }
    }

    pub(super) fn files(&self) -> Files {
        Files::of(&self.folder, &self.note)
    }

    /// Says something to the run; it is gone only when the engine is ending.
    pub(super) fn tell(&self, message: Message) {
        drop(self.messages.send(message));
    }

    /// Tells again what jobs before the last one said, for a run that did not hear it.
    pub(super) fn replay(&mut self) {
        let number = self.note.number;
        for earlier in 1..number {
            self.note.number = earlier;
            self.listen();
            self.read_bytes = 0;
            self.last = None;
        }
        self.note.number = number;
        // What was kept before that is no headway of this job; its folder says when it was submitted.
        let written = fs::metadata(self.files().script()).and_then(|metadata| metadata.modified());
        self.submitted = written.unwrap_or(self.submitted);
    }

    /// Tells what the worker has said since. Its last word is kept until the end is known.
    pub(super) fn listen(&mut self) {
        let Ok(mut file) = File::open(self.files().events()) else { return };
        if file.seek(SeekFrom::Start(self.read_bytes)).is_err() {
            return;
        }
        let mut lines = BufReader::new(file);
        let mut line = Vec::new();
        while lines.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) && line.ends_with(b"\n") {
            self.read_bytes += line.len() as u64;
            match serde_json::from_slice(&line) {
                Ok(event @ (Event::Done { .. } | Event::Stopped { .. } | Event::Failed { .. })) => {
                    self.last = Some(event);
                }
                Ok(event) => self.tell(Message::Event { stage: self.stage, event: event.in_plain_words() }),
                // No other writer than this program's.
                Err(_) => {}
            }
            line.clear();
        }
    }

    /// Looks whether the node has told of the end; says whether that is new.
    pub(super) fn look_for_end(&mut self) -> bool {
        if self.end.is_some() {
            return false;
        }
        self.end = self.files().read_end();
        if self.end.is_some() {
            self.ended_at.get_or_insert_with(Instant::now);
            self.listen();
        }
        self.end.is_some()
    }

    /// Whether the queue's word would help to judge an end that the node told of.
    pub(super) fn wants_word(&self) -> bool {
        self.is_asked || self.ended_at.is_some()
    }

    /// Takes in what the queue says of its job.
    pub(super) fn see(&mut self, job: &QueueJob) {
        self.missing = 0;
        if self.told.as_ref() != Some(&job.queued) {
            self.told = Some(job.queued.clone());
            self.tell(Message::Queued { stage: self.stage, queued: job.queued.clone() });
        }
        if job.has_ended() {
            self.ended_at.get_or_insert_with(Instant::now);
        }
        self.in_queue = Some(job.clone());
    }

    /// Takes in that the queue doesn't know its job; says whether that is so for good.
    pub(super) fn miss(&mut self) -> bool {
        self.missing += 1;
        let is_gone = self.missing >= MOST_MISSING && !self.in_queue.as_ref().is_some_and(QueueJob::has_ended);
        if is_gone {
            self.ended_at.get_or_insert_with(Instant::now);
        }
        is_gone && self.missing == MOST_MISSING
    }

    pub(super) fn account(&mut self, state: Option<String>) {
        self.accounted = state;
    }

    /// Whether something of this submission's job is there, so that it must have run.
    pub(super) fn has_run(&self) -> bool {
        self.end.is_some() || self.files().events().exists() || self.files().said().exists()
    }

    pub(super) fn verdict(&self, settings: &Settings) -> Verdict {
        let standing = match &self.in_queue {
            Some(job) if job.has_ended() => Standing::Ended(job),
            _ if self.missing >= MOST_MISSING => Standing::Gone(self.accounted.as_deref()),
            _ => Standing::Open,
        };
        let known = Known {
            ask: &self.ask,
            settings,
            note: &self.note,
            last: self.last.as_ref(),
            end: self.end.as_ref(),
            standing,
            waited: self.ended_at.map_or(Duration::ZERO, |at| at.elapsed()),
            watched: match (self.is_asked, self.is_adopted) {
                (true, _) => Watched::ToItsEnd,
                (false, true) => Watched::Adopted,
                (false, false) => Watched::Throughout,
            },
            has_kept_state: self.ended_at.is_some() && self.has_kept_state(),
            tells_of_memory: self.ended_at.is_some() && self.files().tells_of_memory(),
        };
        known.verdict()
    }

    fn has_kept_state(&self) -> bool {
        let entries = fs::read_dir(&self.resume).into_iter().flatten().flatten();
        let mut changes = entries.filter_map(|entry| entry.metadata().ok()?.modified().ok());
        changes.any(|changed| changed > self.submitted)
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
    pub(super) fn renumber(&mut self, at: Instant, tries: u32) {
        self.note.number += 1;
        self.phase = Phase::Submit { at, tries };
    }

    /// Makes it ready for another submission.
    pub(super) fn again(&mut self, why: String, is_lost: bool) -> anyhow::Result<()> {
        self.files().settle_log();
        let note = &mut self.note;
        note.number += 1;
        note.earlier.extend(note.job.take());
        // The next run would find the job that has ended by it.
        note.name.clear();
        note.said = None;
        note.lost = if is_lost { note.lost + 1 } else { 0 };
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
        *self = fresh;
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
            gpus: 0,
            keeps_state: true,
        };
        let call = Call { program: None, threads: 1, sees_gpus: false };
        let resume = folder.path().join("resume");
        Tracked::new(0, folder.path().to_owned(), (ask, call, note), resume, mpsc::sync_channel(8).0)
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
