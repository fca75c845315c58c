//! What becomes of a stage whose job has ended, or is gone: by what its node said, what the worker said, and what the queue says.

use std::time::Duration;

use bam_contract::event::Event;

use super::ask::Ask;
use super::files::{NodeEnd, Note};
use super::queue::QueueJob;
use crate::profile::Settings;
use crate::span::Span;
use crate::ui::units::bytes;

/// Submissions in a row that may be lost through no fault of the stage.
const MOST_LOST: u32 = 3;

/// How long what a node wrote may take to be seen here after its job has ended, by a network file system.
const SETTLE: Duration = Duration::from_secs(3);
const SETTLE_COMPLETED: Duration = Duration::from_mins(1);

/// And how long all of what it made.
const SETTLE_OUTPUT: Duration = Duration::from_mins(2);

/// How long Slurm's own word about the end is waited for, while it does not answer.
const MOST_WAIT: Duration = Duration::from_mins(2);

/// Slurm looks at time limits, and at the signals before them, once in so many seconds.
const GRAIN_SECS: f64 = 90.0;

/// What is known of a job.
#[derive(Debug)]
pub(super) struct Known<'a> {
    pub(super) ask: &'a Ask,
    pub(super) settings: &'a Settings,
    pub(super) note: &'a Note,
    /// What the worker said last.
    pub(super) last: Option<&'a Event>,
    pub(super) end: Option<&'a NodeEnd>,
    /// Whether all that was said and made there is seen here.
    pub(super) shows_all: bool,
    /// The time that the queue gives the job, as far as it said.
    pub(super) limit: Option<Duration>,
    pub(super) standing: Standing<'a>,
    /// How long its end is known.
    pub(super) waited: Duration,
    pub(super) watched: Watched,
    /// Whether the stage has kept a state since it was submitted.
    pub(super) has_kept_state: bool,
    /// Whether Slurm said on the node that memory was short.
    pub(super) tells_of_memory: bool,
}

/// What this run has to do with a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Watched {
    Throughout,
    /// It may have ended while nobody watched.
    Adopted,
    /// This run wants it to end.
    ToItsEnd,
}

/// How a job stands in the queue.
#[derive(Clone, Copy, Debug)]
pub(super) enum Standing<'a> {
    /// It is there, or the queue could not be asked.
    Open,
    Ended(&'a QueueJob),
    /// The queue doesn't know it. The state that accounting has of it, where there is one.
    Gone(Option<&'a str>),
}

#[derive(Debug, PartialEq)]
pub(super) enum Verdict {
    Wait,
    /// The worker has ended, well or not, as its node says.
    Ended,
    Failed {
        trouble: String,
        hint: Option<String>,
    },
    /// The stage goes on in another job.
    Again {
        why: String,
        is_lost: bool,
    },
}

impl Known<'_> {
    pub(super) fn verdict(&self) -> Verdict {
        let is_settled = !matches!(self.standing, Standing::Open);
        match self.end {
            Some(end) => {
                // A last word that isn't seen yet would say why.
                if !self.shows_all && self.waited < SETTLE_OUTPUT {
                    return Verdict::Wait;
                }
                let is_stopped = matches!(self.last, Some(Event::Stopped { .. }));
                let is_clear = end.trouble.is_none() && !is_stopped || matches!(self.last, Some(Event::Failed { .. }));
                if is_clear && end.trouble.is_none() && !self.shows_all {
                    return self.without_output(end);
                }
                if is_clear || self.watched == Watched::ToItsEnd {
                    return Verdict::Ended;
                }
                // Slurm may know better than the node why.
                if !is_settled && self.waited < MOST_WAIT {
                    return Verdict::Wait;
                }
            }
            None if !is_settled => return Verdict::Wait,
            None => {
                let settle = if self.state() == "COMPLETED" { SETTLE_COMPLETED } else { SETTLE };
                if self.waited < settle {
                    return Verdict::Wait;
                }
            }
        }
        self.of_trouble()
    }

    /// About one that did its work, of which not all is seen.
    fn without_output(&self, end: &NodeEnd) -> Verdict {
        let trouble = format!("not all that {} made is seen here, of {} files", self.job(), end.output.len());
        Verdict::Failed { trouble, hint: Some("is the store on a file system that the nodes share?".to_owned()) }
    }

    fn state(&self) -> &str {
        match self.standing {
            Standing::Open => "",
            Standing::Ended(job) => &job.state,
            Standing::Gone(state) => state.unwrap_or(GONE),
        }
    }

    /// About a job that did not end as a worker ends.
    fn of_trouble(&self) -> Verdict {
        let job = self.job();
        let kind = &self.ask.kind;
        let state = self.state();
        if self.watched == Watched::ToItsEnd {
            return Verdict::Failed { trouble: format!("{job} was cancelled"), hint: None };
        }
        if state == "CANCELLED" && self.watched == Watched::Throughout {
            let hint = Some("`bam run` submits the stage again".to_owned());
            return Verdict::Failed { trouble: format!("{job} was cancelled, and not by this run"), hint };
        }
        if state == "OUT_OF_MEMORY" || self.tells_of_memory {
            let had = if self.ask.is_memory_known {
                format!("it had asked for {}", bytes(self.ask.memory_bytes))
            } else {
                "it had asked for none, and had the partition's default".to_owned()
            };
            let trouble = format!("{job} ran out of memory: {had}");
            return Verdict::Failed {
                trouble,
                hint: Some(format!("raise `memory` of `{kind}` in the profile's `limits`")),
            };
        }
        if let Some(Event::Stopped { summary }) = self.last {
            let is_at_its_place = self.note.stopped_at.as_ref() == Some(summary);
            if is_at_its_place && NO_FAULT_OF_ITS_OWN.contains(&state) {
                return self.lost();
            }
            if is_at_its_place {
                let trouble = format!("two jobs in a row stopped at the same place: {summary}");
                let hint = format!("{}: a job has no time to make headway", self.how_to_have_more_time());
                return Verdict::Failed { trouble, hint: Some(hint) };
            }
            return Verdict::Again { why: format!("{job} {}: {summary}", self.why_it_ended()), is_lost: false };
        }
        match state {
            _ if self.is_past_its_limit() => self.out_of_time(),
            state if NO_FAULT_OF_ITS_OWN.contains(&state) => self.lost(),
            GONE if self.end.is_none() => self.lost(),
            _ => match self.end {
                Some(end) if end.is_signalled && self.is_near_its_limit(end.wall_secs) => self.out_of_time(),
                Some(end) if end.is_signalled => self.lost(),
                Some(_) => Verdict::Ended,
                None => self.without_a_word(),
            },
        }
    }

    fn out_of_time(&self) -> Verdict {
        if self.has_kept_state {
            let why = format!("{} {}; it goes on from the state that it kept last", self.job(), self.why_it_ended());
            return Verdict::Again { why, is_lost: false };
        }
        let job = self.job();
        let time = self.limit().map_or_else(|| "its partition's".to_owned(), |time| Span(time).to_string());
        let more = self.how_to_have_more_time();
        let (trouble, hint) = match self.ask.grace(self.settings) {
            Some(grace) if !self.is_past_its_limit() => {
                let own = self.settings.limits.get(&self.ask.kind).and_then(|limit| limit.grace);
                let or = if own.is_some() { ", or keep a state when SIGTERM comes" } else { "" };
                (
                    format!("{job} was asked to end {grace} before its limit, {time}, and kept no state to go on from"),
                    more + or,
                )
            }
            _ => (format!("{job} came to its time limit, {time}, and the stage keeps no state to go on from"), more),
        };
        Verdict::Failed { trouble, hint: Some(hint) }
    }

    /// Whether the queue ended it at its limit, and not a signal before.
    fn is_past_its_limit(&self) -> bool {
        ["TIMEOUT", "DEADLINE"].contains(&self.state())
    }

    fn how_to_have_more_time(&self) -> String {
        let kind = &self.ask.kind;
        match self.ask.time {
            Some(_) => format!("raise `time` in the stage's `resources`, or of `{kind}` in the profile's `limits`"),
            None => format!(
                "the limit is the partition's: name one that gives more as `partition` of `{kind}` in the profile's `limits`"
            ),
        }
    }

    fn lost(&self) -> Verdict {
        let why = format!("{} {}", self.job(), self.why_it_ended());
        if self.note.lost < MOST_LOST || self.has_kept_state {
            return Verdict::Again { why, is_lost: true };
        }
        let hint = Some("`bam run` submits the stage again".to_owned());
        Verdict::Failed { trouble: format!("{why}, as {MOST_LOST} before it were lost"), hint }
    }

    /// About a job that left no word of a worker.
    fn without_a_word(&self) -> Verdict {
        let job = self.job();
        let (trouble, hint) = match self.standing {
            Standing::Ended(QueueJob { exit_code, state, .. }) if state == "FAILED" => (
                format!("{job} ended with exit code {exit_code} before the worker did"),
                "its log has what `setup` and Slurm said; without one, do the nodes see the store and `bam` at the same paths?",
            ),
            _ => (
                format!("{job} has ended ({}), and left no word of it in the store", self.state().to_lowercase()),
                "is the store on a file system that the nodes share?",
            ),
        };
        Verdict::Failed { trouble, hint: Some(hint.to_owned()) }
    }

    fn why_it_ended(&self) -> &'static str {
        match self.state() {
            "TIMEOUT" | "DEADLINE" => "came to its time limit",
            "PREEMPTED" => "was preempted",
            "NODE_FAIL" => "lost its node",
            "BOOT_FAIL" | "LAUNCH_FAILED" => "did not start on its node",
            "CANCELLED" | "REVOKED" => "was cancelled",
            GONE if self.end.is_none() => "is gone from the queue",
            _ if self.end.is_some_and(|end| self.is_near_its_limit(end.wall_secs)) => "came to its time limit",
            _ => "was asked to end",
        }
    }

    /// The time that the job had: by the queue, or else by the profile.
    fn limit(&self) -> Option<Duration> {
        self.limit.or_else(|| Some(self.ask.time?.0))
    }

    /// Whether a signal after so many seconds was the one before the limit, or that at it, should the queue have no word of its own.
    fn is_near_its_limit(&self, wall_secs: f64) -> bool {
        let Some(time) = self.limit() else { return false };
        let before = match self.ask.grace(self.settings) {
            Some(Span(grace)) => grace,
            None if self.is_silent() => Duration::ZERO,
            None => return false,
        };
        wall_secs + before.as_secs_f64() + GRAIN_SECS >= time.as_secs_f64()
    }

    /// Whether the queue says nothing of how it ended.
    fn is_silent(&self) -> bool {
        ["", GONE].contains(&self.state())
    }

    fn job(&self) -> String {
        match (&self.note.job, self.end) {
            (Some(job), Some(end)) => format!("job {job} on {}", end.host),
            (Some(job), None) => format!("job {job}"),
            (None, _) => "its job".to_owned(),
        }
    }
}

/// States of jobs that ended for other reasons than what they did.
const NO_FAULT_OF_ITS_OWN: [&str; 6] = ["BOOT_FAIL", "CANCELLED", "LAUNCH_FAILED", "NODE_FAIL", "PREEMPTED", "REVOKED"];

/// Stands for the state of a job that the queue no longer knows.
const GONE: &str = "GONE";

#[cfg(test)]
mod tests;
