//! How long what waits will take, by what batches cost lately and how many requests shared the sessions.

use std::time::Duration;

use super::batches::{PASS_OVERHEAD_TOKENS, cost_of, tokens_of};
use super::lanes::Lane;
use super::request::Row;
use crate::serve::rate::{LAST, Rate};

/// Rows that are divided into batches together may take this share of the time that requests may wait, on the sessions they are
/// divided among: what comes meanwhile comes after them.
const SHARE: f64 = 0.33;
/// For so long a rush must last until large requests are told that it will go on.
const RUSH_SECS: f64 = 2.0;

#[derive(Debug)]
pub(super) struct Pace {
    sessions: usize,
    rate: Rate,
    /// No batch has been computed yet.
    is_guessed: bool,
    /// What a token costs in a batch of a queue's rows, the others' padding and the pass itself included; in tokens, lately.
    cost: f64,
    /// Requests that waited while batches were computed, lately.
    sharing: f64,
}

impl Pace {
    pub(super) fn new(sessions: usize) -> Self {
        Self { sessions, rate: Rate::new(sessions), is_guessed: true, cost: 1.0, sharing: 0.0 }
    }

    /// What a session takes for a row of so many tokens: a guess, until batches are computed.
    pub(super) fn assume(&mut self, tokens: usize, time: Duration) {
        self.rate.note(tokens + PASS_OVERHEAD_TOKENS, time);
    }

    /// Notes what a batch took, and how many requests waited meanwhile.
    pub(super) fn note(&mut self, batch: &[Row], time: Duration, requests: usize, lane: Lane) {
        let cost = cost_of(batch);
        // What few rows take on all threads doesn't tell what many will take side by side.
        if lane == Lane::Shared {
            if self.is_guessed {
                self.is_guessed = false;
                self.rate = Rate::new(self.sessions);
            }
            self.rate.note(cost, time);
        }
        // One alone, on a server that has nothing else to do, doesn't tell what those of a queue will cost.
        if batch.len() > 1 || requests > 0 {
            self.cost += LAST * (cost as f64 / tokens_of(batch) as f64 - self.cost);
        }
        let share = if lane == Lane::Shared { 1.0 / self.sessions as f64 } else { 1.0 };
        let weight = time.as_secs_f64() * share / RUSH_SECS;
        self.sharing += weight.min(1.0) * (requests as f64 - self.sharing);
    }

    /// How long so many tokens of rows that wait will take.
    pub(super) fn time_of(&self, tokens: usize) -> Duration {
        self.rate.time_of(tokens as f64 * self.cost)
    }

    /// Tokens of others that come before the end of a request that comes now, if as many go on to wait as do now: each has
    /// as much computed as it has. Those of a short rush will be gone.
    pub(super) fn shared_with(&self, tokens: usize, requests: usize) -> usize {
        (tokens as f64 * self.sharing.min(requests as f64)) as usize
    }

    /// Most tokens that are divided into batches together, for each session.
    pub(super) fn budget(&self, wait: Duration) -> usize {
        self.rate.units_in(wait.as_secs_f64() * SHARE / self.cost)
    }
}
