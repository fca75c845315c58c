//! How fast a model's sessions are: how long what waits will take, and how much goes into a batch.

use std::time::Duration;

/// How much the last batch counts.
pub(super) const LAST_BATCH: f64 = 0.2;

#[derive(Debug)]
pub(super) struct Rate {
    sessions: usize,
    /// Tokens that one session computes a second, lately; unknown before the first batch.
    tokens_per_sec: Option<f64>,
}

impl Rate {
    pub(super) fn new(sessions: usize) -> Self {
        Self { sessions, tokens_per_sec: None }
    }

    /// Notes what a batch took that cost as much as so many tokens.
    pub(super) fn note(&mut self, tokens: usize, time: Duration) {
        let last = tokens as f64 / time.as_secs_f64().max(1e-6);
        let before = self.tokens_per_sec.unwrap_or(last);
        self.tokens_per_sec = Some(before + LAST_BATCH * (last - before));
    }

    /// How long so many tokens will take; no time where nothing is known.
    pub(super) fn time_of(&self, tokens: usize) -> Duration {
        let all = self.tokens_per_sec.map_or(f64::INFINITY, |of_one| of_one * self.sessions as f64);
        Duration::from_secs_f64(tokens as f64 / all)
    }

    /// How much one session computes in a time; everything where nothing is known.
    pub(super) fn tokens_in(&self, time: Duration) -> usize {
        self.tokens_per_sec.map_or(usize::MAX, |of_one| (of_one * time.as_secs_f64()) as usize)
    }
}
