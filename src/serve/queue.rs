//! Rows that wait for a session, of all requests and tasks, bounded by their tokens and by how long those will take.
//!
//! Requests share the sessions: the rows of a large one are spread over the time that it takes at an equal share, so that
//! small ones come in between.

mod admission;
mod batches;
mod lanes;
mod pace;
mod request;
#[cfg(test)]
mod tests;
mod turns;

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use bam_contract::artifact::tokens::TokenRows;
use tokio::sync::oneshot;

use admission::Admission;
use batches::{batches_of, cost_of, even_share, tokens_of};
pub(super) use lanes::Lane;
use lanes::Lanes;
use pace::Pace;
pub(super) use request::{Answered, Row};
use request::{Outcome, Request};
use turns::{Turn, Turns};

use crate::mutex::lock;

#[derive(Debug)]
pub(super) struct Queue {
    state: Mutex<State>,
    /// Tells the sessions side by side of rows that they may take, and that no more will come.
    shared: Condvar,
    /// The same for the one that has all threads.
    whole: Condvar,
    bounds: Bounds,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) queue_tokens: usize,
    pub(crate) batch_tokens: usize,
    /// For a session.
    pub(crate) wait: Duration,
    /// When a request is given up.
    pub(crate) timeout: Duration,
}

#[derive(Debug)]
struct State {
    rows: BTreeMap<Turn, Row>,
    /// The next batches, of rows that were the first: they come before all others.
    batches: VecDeque<Vec<Row>>,
    turns: Turns,
    /// Requests with rows that wait.
    requests: usize,
    /// Of the rows that wait, and of those that sessions have taken and not yet computed.
    tokens: usize,
    taken_tokens: usize,
    lanes: Lanes,
    pace: Pace,
    admission: Admission,
    closed: bool,
}

/// Why rows are not taken in.
#[derive(Debug, PartialEq)]
pub(super) enum Refused {
    /// They will never fit.
    TooLarge,
    /// So many tokens of others come before their end, and take so long.
    Full { tokens: usize, time: Duration },
}

/// A request's place in the queue. Dropped, it takes with it what has not been computed.
#[derive(Debug)]
pub(super) struct Ticket {
    queue: Arc<Queue>,
    request: Arc<Request>,
    answered: oneshot::Receiver<Outcome>,
}

impl Ticket {
    pub(super) async fn answer(mut self) -> Result<Answered, String> {
        (&mut self.answered).await.unwrap_or_else(|_| Err("the session ended".to_owned()))
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.queue.forget(&self.request);
    }
}

impl Queue {
    /// A queue before so many sessions that compute side by side, and, where they are several, one that has all their threads.
    pub(super) fn new(bounds: Bounds, sessions: usize) -> Arc<Self> {
        let state = State {
            rows: BTreeMap::new(),
            batches: VecDeque::new(),
            turns: Turns::default(),
            requests: 0,
            tokens: 0,
            taken_tokens: 0,
            lanes: Lanes::new(sessions),
            pace: Pace::new(sessions),
            admission: Admission::new(bounds.wait),
            closed: false,
        };
        Arc::new(Self { state: Mutex::new(state), shared: Condvar::new(), whole: Condvar::new(), bounds })
    }

    /// What a session takes for a row of so many tokens, by which waiting is bounded until batches have been computed.
    pub(super) fn assume(&self, tokens: usize, time: Duration) {
        lock(&self.state).pace.assume(tokens, time);
    }

    /// Takes in a request's rows, all or none.
    pub(super) fn ask(self: &Arc<Self>, rows: TokenRows, tasks: Vec<usize>) -> Result<Ticket, Refused> {
        let mut state = lock(&self.state);
        let turns = state.turns.of(&rows);
        state.check_room(&self.bounds, &rows, turns.last())?;
        state.requests += usize::from(!turns.is_empty());
        state.turns.came(turns.len());
        state.tokens += rows.input_ids.len();
        let (request, answered) = Request::new(rows, tasks);
        let row = |(index, turn)| (turn, Row { request: request.clone(), index });
        state.rows.extend(turns.into_iter().enumerate().map(row));
        let (lane, sessions) = state.lanes.to_wake(state.waiting());
        drop(state);
        self.wake(lane, sessions);
        Ok(Ticket { queue: self.clone(), request, answered })
    }

    /// The next batch of a session. Waits for one; none once the queue is closed and empty.
    pub(super) fn take(&self, lane: Lane) -> Option<Vec<Row>> {
        let mut state = lock(&self.state);
        while !state.lanes.may_take(lane, state.waiting()) {
            // Once it is closed, those side by side take what the other may not.
            if state.closed && (lane == Lane::Whole || state.waiting() == 0) {
                return None;
            }
            state = self.condvar_of(lane).wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let batch = state.take(lane, &self.bounds);
        // Rows that only the other lane was told of, before this session was busy.
        if lane == Lane::Shared && state.waiting() > 0 && state.lanes.free() > 0 {
            self.shared.notify_one();
        }
        batch
    }

    /// Notes that a session has computed a batch, and how long it took.
    pub(super) fn computed(&self, batch: &[Row], time: Duration, lane: Lane) {
        let mut state = lock(&self.state);
        state.taken_tokens -= tokens_of(batch);
        state.lanes.computed(lane, cost_of(batch));
        let requests = state.requests;
        state.pace.note(batch, time, requests, lane);
        // The others have waited for it; it looks for more itself.
        if lane == Lane::Whole {
            match state.lanes.to_wake(state.waiting()) {
                _ if state.closed => self.shared.notify_all(),
                (Lane::Shared, sessions) => self.wake(Lane::Shared, sessions),
                (Lane::Whole, _) => {}
            }
        }
    }

    fn wake(&self, lane: Lane, sessions: usize) {
        (0..sessions).for_each(|_| self.condvar_of(lane).notify_one());
    }

    fn condvar_of(&self, lane: Lane) -> &Condvar {
        match lane {
            Lane::Shared => &self.shared,
            Lane::Whole => &self.whole,
        }
    }

    /// Lets sessions end when all is answered.
    pub(super) fn close(&self) {
        lock(&self.state).closed = true;
        self.shared.notify_all();
        self.whole.notify_all();
    }

    /// Rows and tokens that wait.
    pub(super) fn waiting(&self) -> (usize, usize) {
        let state = lock(&self.state);
        (state.waiting(), state.tokens)
    }

    fn forget(&self, request: &Arc<Request>) {
        if request.waiting() == 0 {
            return;
        }
        let mut state = lock(&self.state);
        let mut forgotten: Vec<Row> =
            state.rows.extract_if(.., |_, row| Arc::ptr_eq(&row.request, request)).map(|(_, row)| row).collect();
        for batch in &mut state.batches {
            forgotten.extend(batch.extract_if(.., |row| Arc::ptr_eq(&row.request, request)));
        }
        state.batches.retain(|batch| !batch.is_empty());
        for row in &forgotten {
            state.no_longer_waits(row);
            state.tokens -= row.tokens();
        }
    }
}

impl State {
    /// Refuses a request's rows, the last of which has this turn, where they would never fit, wait too long or not end in time.
    fn check_room(&mut self, bounds: &Bounds, request: &TokenRows, last: Option<&Turn>) -> Result<(), Refused> {
        let tokens = request.input_ids.len();
        if tokens > bounds.queue_tokens {
            return Err(Refused::TooLarge);
        }
        if self.tokens + tokens > bounds.queue_tokens {
            let time = self.pace.time_until_free(&self.lanes, self.tokens);
            return Err(Refused::Full { tokens: self.tokens + self.taken_tokens, time });
        }
        let (rows, before) = last.map_or((0, 0), |last| self.before(*last));
        if self.waiting() == 0 && self.lanes.are_mostly_idle() {
            self.admission.drained();
        }
        let longest = (0..request.len()).map(|row| request.tokens(row)).max().unwrap_or(0);
        let rest = self.pace.time_of(tokens - longest);
        // However slow the model is, each session may have its next row at hand.
        let time = self.pace.time_until_free(&self.lanes, before);
        if rows >= self.lanes.sessions() && time > self.admission.wait_with(rest) {
            self.admission.refused(rest);
            return Err(Refused::Full { tokens: before + self.taken_tokens, time });
        }
        // Those that come later go ahead of a large one's later rows.
        let shared = self.pace.shared_with(tokens, self.requests);
        if shared > 0 && self.pace.time_of(shared + tokens) > bounds.timeout {
            return Err(Refused::Full { tokens: shared, time: self.pace.time_of(shared) });
        }
        Ok(())
    }

    /// Rows that wait and will be taken before one that comes now, and their tokens.
    fn before(&self, turn: Turn) -> (usize, usize) {
        let in_batches = self.batches.iter().flatten();
        let waiting = in_batches.chain(self.rows.range(..turn).map(|(_, row)| row));
        waiting.fold((0, 0), |(rows, tokens), row| (rows + 1, tokens + row.tokens()))
    }

    /// Rows that wait.
    fn waiting(&self) -> usize {
        self.rows.len() + self.batches.iter().map(Vec::len).sum::<usize>()
    }

    /// The next batch, which a session then has.
    fn take(&mut self, lane: Lane, bounds: &Bounds) -> Option<Vec<Row>> {
        if self.batches.is_empty() {
            self.make_batches(lane, bounds);
        }
        let batch = self.batches.pop_front()?;
        let tokens = tokens_of(&batch);
        self.lanes.took(lane, cost_of(&batch));
        self.turns.took(tokens, self.requests);
        for row in &batch {
            self.no_longer_waits(row);
        }
        self.tokens -= tokens;
        self.taken_tokens += tokens;
        Some(batch)
    }

    /// Divides the first rows into batches, among the sessions that are free. Since all of them come before the rest, a row is
    /// passed over by none that comes later, but for those that are divided with it.
    fn make_batches(&mut self, lane: Lane, bounds: &Bounds) {
        let sessions = match lane {
            Lane::Shared => self.lanes.free(),
            Lane::Whole => 1,
        };
        let of_one = bounds.batch_tokens.min(self.pace.budget(self.admission.wait()));
        let budget = of_one.saturating_mul(sessions);
        let (mut first, mut tokens) = (Vec::new(), 0);
        while let Some(row) = self.rows.first_entry() {
            tokens += row.get().tokens();
            if tokens > budget && !first.is_empty() {
                break;
            }
            first.push(row.remove());
        }
        let most = of_one.min(even_share(&first, sessions));
        self.batches = batches_of(first, most).into();
    }

    fn no_longer_waits(&mut self, row: &Row) {
        if row.request.one_less_waits() {
            self.requests -= 1;
        }
    }
}
