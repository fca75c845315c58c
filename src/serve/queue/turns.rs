//! Whose turn it is: fair queueing by virtual time, as networks do it.

use bam_contract::artifact::tokens::TokenRows;

/// When a row's turn is: in virtual time, which begins at 0, and among equals by when it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Turn {
    ticks: u64,
    came: u64,
}

/// Of virtual time, in a token's.
const TICKS: f64 = 1024.0;

#[derive(Debug, Default)]
pub(super) struct Turns {
    /// Tokens of each waiting request that sessions have taken since the queue began, were all equal: the virtual time.
    now: f64,
    /// Rows that came so far.
    came: u64,
}

impl Turns {
    /// The turns of a request's rows: each comes when an equal share of the sessions has computed those before it.
    pub(super) fn of(&self, rows: &TokenRows) -> Vec<Turn> {
        let mut before = self.now;
        let turn = |row: usize| {
            let turn = Turn { ticks: (before * TICKS) as u64, came: self.came + row as u64 };
            before += rows.tokens(row) as f64;
            turn
        };
        (0..rows.len()).map(turn).collect()
    }

    /// So many rows were given their turns.
    pub(super) fn came(&mut self, rows: usize) {
        self.came += rows as u64;
    }

    /// A session took so many tokens, while so many requests waited.
    pub(super) fn took(&mut self, tokens: usize, requests: usize) {
        self.now += tokens as f64 / requests.max(1) as f64;
    }
}
