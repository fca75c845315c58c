//! How long what waits will take, by what batches cost lately and how many requests shared the sessions.

use std::time::Duration;

use super::batches::{PASS_OVERHEAD_TOKENS, cost_of, tokens_of};
use super::lanes::{Lane, Lanes};
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
    /// What a batch of a queue's rows costs, padding and the pass itself included, and the tokens it has; lately.
    cost: Option<[f64; 2]>,
    /// Requests that waited while batches were computed, lately.
    sharing: f64,
}

impl Pace {
    pub(super) fn new(sessions: usize) -> Self {
        Self { sessions, rate: Rate::new(sessions), is_guessed: true, cost: None, sharing: 0.0 }
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
            let last = [cost, tokens_of(batch)].map(|tokens| tokens as f64);
            let [before_cost, before_tokens] = self.cost.unwrap_or(last);
            let mean = |before: f64, last: f64| before + LAST * (last - before);
            self.cost = Some([mean(before_cost, last[0]), mean(before_tokens, last[1])]);
        }
        let share = if lane == Lane::Shared { 1.0 / self.sessions as f64 } else { 1.0 };
        let weight = time.as_secs_f64() * share / RUSH_SECS;
        self.sharing += weight.min(1.0) * (requests as f64 - self.sharing);
    }

    /// How long so many tokens of rows that wait will take all sessions.
    pub(super) fn time_of(&self, tokens: usize) -> Duration {
        self.rate.time_of(tokens as f64 * self.of_a_token())
    }

    /// When a session is free for what comes after so many tokens of rows that wait.
    pub(super) fn time_until_free(&self, lanes: &Lanes, tokens: usize) -> Duration {
        let of_one = lanes.until_free(tokens as f64 * self.of_a_token());
        self.rate.time_of(of_one * self.sessions as f64)
    }

    /// What a token costs.
    fn of_a_token(&self) -> f64 {
        self.cost.map_or(1.0, |[cost, tokens]| cost / tokens)
    }

    /// Tokens of others that come before the end of a request that comes now, if as many go on to wait as do now: each has
    /// as much computed as it has. Those of a short rush will be gone.
    pub(super) fn shared_with(&self, tokens: usize, requests: usize) -> usize {
        (tokens as f64 * self.sharing.min(requests as f64)) as usize
    }

    /// Most tokens that are divided into batches together, for each session.
    pub(super) fn budget(&self, wait: Duration) -> usize {
        self.rate.units_in(wait.as_secs_f64() * SHARE / self.of_a_token())
    }
}
