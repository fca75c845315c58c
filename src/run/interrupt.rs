//! A run that is to end before it is done: what becomes of its workers.

use std::thread;

use super::{Interrupt, Outcome, Run, RunEvent, State};
use crate::executor::Message;
use crate::profile::OnInterrupt;

impl Run<'_, '_> {
    /// The first time workers are asked to stop, or are left, or it is asked which; then they are ended.
    pub(super) fn interrupt(&mut self) {
        match self.on_interrupt {
            Interrupt::Leave => self.leave(),
            Interrupt::Ask(ask) if self.may_start() && !self.working.is_empty() => {
                self.is_asking = true;
                let (jobs, sender) = (self.working.len(), self.sender.clone());
                self.tell(&RunEvent::Asking { jobs });
                thread::spawn(move || drop(sender.send(Message::Answered(ask(jobs)))));
            }
            _ if self.is_asking || self.stopping == Some(Outcome::Interrupted) => {
                (self.is_asking, self.stopping) = (false, Some(Outcome::Interrupted));
                self.working.values().for_each(|working| working.worker.kill());
            }
            _ => self.stop(Outcome::Interrupted),
        }
    }

    pub(super) fn answered(&mut self, answer: OnInterrupt) {
        self.is_asking = false;
        match answer {
            OnInterrupt::Leave => self.leave(),
            OnInterrupt::Cancel => self.stop(Outcome::Interrupted),
        }
    }

    fn leave(&mut self) {
        self.stopping = Some(Outcome::Interrupted);
        for (at, working) in std::mem::take(&mut self.working) {
            let is_left = working.worker.leave();
            working.pending.leave(is_left);
            if is_left {
                self.states[at] = State::Stopped;
                self.tell(&RunEvent::Left { stage: &self.pipeline.stages[at].name, index: at });
            } else {
                self.stopped(at, None, &working.pending);
            }
        }
    }

    pub(super) fn stop(&mut self, outcome: Outcome) {
        self.stopping = Some(outcome);
        self.executor.reins().stop();
        let stages: Vec<&str> = self.working.keys().map(|at| self.pipeline.stages[*at].name.as_str()).collect();
        if !stages.is_empty() {
            self.tell(&RunEvent::Stopping { stages: &stages });
        }
    }
}
