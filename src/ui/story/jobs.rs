//! The story of stages that are jobs of a cluster.

use indicatif::ProgressDrawTarget;

use super::{Story, UnderWay, dim, live_target, stderr};
use crate::executor::Queued;
use crate::run::RunEvent;
use crate::ui::story;

/// States in which a job goes on.
const GOES_ON: [&str; 2] = ["running", "suspended"];
/// And those by which its end is near, which is told when it is known. By all others, in whatever words, it waits.
const ENDS: [&str; 13] = [
    "boot fail",
    "cancelled",
    "completed",
    "completing",
    "deadline",
    "failed",
    "launch failed",
    "node fail",
    "out of memory",
    "preempted",
    "revoked",
    "stopped",
    "timeout",
];

impl Story {
    pub(super) fn tell_of_job(&mut self, event: &RunEvent<'_>) {
        match event {
            RunEvent::Adopted { stage, index } => {
                let head = self.head("ADOPTED", &stderr().cyan(), "", *index, stage);
                self.line(&head, "this run goes on with an earlier run's job", "");
            }
            RunEvent::Queued { stage, index, queued } => self.queued(*index, stage, queued),
            RunEvent::Requeued { stage, index, why } => {
                let head = self.head("REQUEUED", &stderr().yellow(), "", *index, stage);
                self.line(&head, why, "");
            }
            RunEvent::Left { stage, index } => {
                self.settle(*index);
                let head = self.head("LEFT", &stderr().yellow(), "", *index, stage);
                self.line(&head, "its job goes on; `bam run` started again adopts it", "");
            }
            // Live lines would be drawn over the question, and over its answer.
            RunEvent::Asking { .. } => {
                _ = self.live.clear();
                self.live.set_draw_target(ProgressDrawTarget::hidden());
            }
            _ => {}
        }
    }

    /// Shows live lines again, where there is a terminal.
    pub(super) fn after_question(&self) {
        if self.live.is_hidden() {
            self.live.set_draw_target(live_target());
        }
    }

    fn queued(&mut self, index: usize, stage: &str, queued: &Queued) {
        let verb = match queued.state.as_str() {
            state if GOES_ON.contains(&state) => "RUNNING",
            state if ENDS.contains(&state) => return,
            _ => "QUEUED",
        };
        let state = in_words(queued);
        if self.live.is_hidden() {
            let head = self.head(verb, &stderr().cyan(), "", index, stage);
            story(&format!("{head}  {}", dim().apply_to(state)));
            return;
        }
        // The clock begins anew with the job.
        if self.under_way.get(&index).is_some_and(|UnderWay { verb: now, .. }| *now != verb) {
            self.begin(verb, index, stage);
        }
        self.progress(index, stage, None, &state);
    }
}

/// `job 12 pending: Resources`, `job 12 running on node7`.
pub(crate) fn in_words(queued: &Queued) -> String {
    let Queued { job, state, reason, node } = queued;
    let reason = reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
    let node = node.as_ref().map(|node| format!(" on {node}")).unwrap_or_default();
    format!("job {job} {state}{node}{reason}")
}
