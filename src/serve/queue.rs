//! Rows that wait for a session, of all requests and tasks, bounded by their tokens and by how long those will take.
//!
//! Requests share the sessions: the rows of a large one are spread over the time that it takes at an equal share, so that
//! small ones come in between (fair queueing by virtual time, as networks do it).

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bam_contract::artifact::tokens::TokenRows;
use bam_inference::padding::passes_within;
use tokio::sync::oneshot;

use super::rate::Rate;

/// The first rows, among which a batch is chosen; bounds what the choice costs.
const WINDOW_ROWS: usize = 256;
/// What a pass of ONNX Runtime costs beside its tokens, in tokens: measured for a small encoder on one core and on two. It
/// moves only what goes together.
const PASS_OVERHEAD_TOKENS: usize = 16;
/// A batch may take this share of the time that requests may wait, so that what comes during a batch is in the next.
const BATCH_SHARE: f64 = 0.5;

/// A request may wait for as many times its own size, however long that takes: else large ones, and slow models, would
/// have one client at a time.
pub(super) const TIMES_ITS_OWN: usize = 8;

#[derive(Debug)]
pub(super) struct Queue {
    state: Mutex<State>,
    /// Told when rows come, and when no more will.
    changed: Condvar,
    bounds: Bounds,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) queue_tokens: usize,
    pub(crate) batch_tokens: usize,
    pub(crate) wait: Duration,
}

#[derive(Debug)]
struct State {
    rows: BTreeMap<Turn, Row>,
    /// Requests with rows that wait.
    requests: usize,
    /// Tokens of each of them that sessions have taken since the queue began, were all equal: the virtual time.
    now: f64,
    /// Rows that came so far.
    came: u64,
    /// Of the rows that wait, and of those that sessions have taken and not yet computed.
    tokens: usize,
    taken_tokens: usize,
    rate: Rate,
    closed: bool,
}

/// When a row's turn is: in virtual time, which begins at 0, and among equals by when it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Turn {
    ticks: u64,
    came: u64,
}

/// Of virtual time, in a token's.
const TICKS: f64 = 1024.0;

/// One row of a request.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) request: Arc<Request>,
    pub(super) index: usize,
}

/// The rows of a request, and what has been answered of them.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) rows: TokenRows,
    /// Which heads are asked.
    pub(super) tasks: Vec<usize>,
    queued: Instant,
    /// Rows that no session has taken.
    waiting: AtomicUsize,
    answers: Mutex<Answers>,
}

#[derive(Debug)]
struct Answers {
    /// Outputs by row, and by task in the order of `tasks`.
    logits: Vec<Vec<Vec<f32>>>,
    missing: usize,
    /// When its first batch was begun.
    started: Option<Instant>,
    done: Option<oneshot::Sender<Outcome>>,
}

pub(super) type Outcome = Result<Answered, String>;

#[derive(Debug)]
pub(super) struct Answered {
    /// Outputs by row and task.
    pub(super) logits: Vec<Vec<Vec<f32>>>,
    /// From the queue to the first batch.
    pub(super) wait: Duration,
    /// From there to the end of the last.
    pub(super) compute: Duration,
}

/// Why rows are not taken in.
#[derive(Debug, PartialEq)]
pub(super) enum Refused {
    /// They will never fit.
    TooLarge,
    /// So many tokens come before these, and take so long.
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
    pub(super) async fn answer(mut self) -> Outcome {
        (&mut self.answered).await.unwrap_or_else(|_| Err("the session ended".to_owned()))
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.queue.forget(&self.request);
    }
}

impl Row {
    fn tokens(&self) -> usize {
        self.request.rows.tokens(self.index)
    }
}

impl Request {
    /// Notes a row's outputs, of a batch that was begun then; the last one sends the answer.
    pub(super) fn answer(&self, row: usize, logits: Vec<Vec<f32>>, started: Instant) {
        let mut answers = lock(&self.answers);
        answers.logits[row] = logits;
        answers.missing -= 1;
        let first = answers.started.map_or(started, |first| first.min(started));
        answers.started = Some(first);
        if answers.missing == 0
            && let Some(done) = answers.done.take()
        {
            let logits = std::mem::take(&mut answers.logits);
            let (wait, compute) = (first - self.queued, first.elapsed());
            // Nobody may be waiting any more.
            _ = done.send(Ok(Answered { logits, wait, compute }));
        }
    }

    pub(super) fn fail(&self, error: &str) {
        if let Some(done) = lock(&self.answers).done.take() {
            _ = done.send(Err(error.to_owned()));
        }
    }
}

impl Queue {
    /// A queue before so many sessions.
    pub(super) fn new(bounds: Bounds, sessions: usize) -> Arc<Self> {
        let state = State {
            rows: BTreeMap::new(),
            requests: 0,
            now: 0.0,
            came: 0,
            tokens: 0,
            taken_tokens: 0,
            rate: Rate::new(sessions),
            closed: false,
        };
        Arc::new(Self { state: Mutex::new(state), changed: Condvar::new(), bounds })
    }

    /// Takes in a request's rows, all or none.
    pub(super) fn ask(self: &Arc<Self>, rows: TokenRows, tasks: Vec<usize>) -> Result<Ticket, Refused> {
        let tokens = rows.input_ids.len();
        let Bounds { queue_tokens, wait, .. } = self.bounds;
        if tokens > queue_tokens {
            return Err(Refused::TooLarge);
        }
        let (done, answered) = oneshot::channel();
        let answers =
            Answers { logits: vec![Vec::new(); rows.len()], missing: rows.len(), started: None, done: Some(done) };
        let waiting = AtomicUsize::new(rows.len());
        let request = Arc::new(Request { rows, tasks, queued: Instant::now(), waiting, answers: Mutex::new(answers) });
        let mut state = lock(&self.state);
        let turns = state.turns(&request.rows);
        let before = turns.last().map_or(0, |last| state.tokens_before(*last));
        if state.tokens + tokens > queue_tokens {
            return Err(state.full(state.tokens + state.taken_tokens));
        }
        if state.rate.time_of(before) > wait && before > TIMES_ITS_OWN * (tokens + PASS_OVERHEAD_TOKENS) {
            return Err(state.full(before));
        }
        state.requests += usize::from(!turns.is_empty());
        state.came += turns.len() as u64;
        state.tokens += tokens;
        let row = |(index, turn)| (turn, Row { request: request.clone(), index });
        state.rows.extend(turns.into_iter().enumerate().map(row));
        drop(state);
        self.changed.notify_all();
        Ok(Ticket { queue: self.clone(), request, answered })
    }

    /// The next batch: the row whose turn it is, and those that are best computed with it. Waits for one; none once the queue
    /// is closed and empty.
    pub(super) fn take(&self) -> Option<Vec<Row>> {
        let mut state = lock(&self.state);
        while state.rows.is_empty() {
            if state.closed {
                return None;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let first = state.rows.iter().take(WINDOW_ROWS);
        let (turns, lengths): (Vec<Turn>, Vec<usize>) = first.map(|(turn, row)| (*turn, row.tokens())).unzip();
        let in_time = state.rate.tokens_in(self.bounds.wait.mul_f64(BATCH_SHARE));
        let chosen = with_the_first(&lengths, self.bounds.batch_tokens.min(in_time));
        let turns = turns.into_iter().zip(chosen).filter(|(_, chosen)| *chosen);
        let batch: Vec<Row> = turns.filter_map(|(turn, _)| state.rows.remove(&turn)).collect();
        let tokens: usize = batch.iter().map(Row::tokens).sum();
        state.now += tokens as f64 / state.requests.max(1) as f64;
        for row in &batch {
            state.no_longer_waits(row);
        }
        state.tokens -= tokens;
        state.taken_tokens += tokens;
        Some(batch)
    }

    /// Notes that a batch is done, and how long it took.
    pub(super) fn computed(&self, batch: &[Row], time: Duration) {
        let longest = batch.iter().map(Row::tokens).max().unwrap_or(0);
        let mut state = lock(&self.state);
        state.taken_tokens -= batch.iter().map(Row::tokens).sum::<usize>();
        state.rate.note(batch.len() * longest + PASS_OVERHEAD_TOKENS, time);
    }

    /// Lets sessions end when all is answered.
    pub(super) fn close(&self) {
        lock(&self.state).closed = true;
        self.changed.notify_all();
    }

    /// Rows and tokens that wait.
    pub(super) fn waiting(&self) -> (usize, usize) {
        let state = lock(&self.state);
        (state.rows.len(), state.tokens)
    }

    fn forget(&self, request: &Arc<Request>) {
        if request.waiting.load(Ordering::Relaxed) == 0 {
            return;
        }
        let mut state = lock(&self.state);
        let forgotten: Vec<Row> =
            state.rows.extract_if(.., |_, row| Arc::ptr_eq(&row.request, request)).map(|(_, row)| row).collect();
        for row in &forgotten {
            state.no_longer_waits(row);
            state.tokens -= row.tokens();
        }
    }
}

impl State {
    /// The turns of a request's rows: each comes when an equal share of the sessions has computed those before it.
    fn turns(&self, rows: &TokenRows) -> Vec<Turn> {
        let mut before = self.now;
        let turn = |row: usize| {
            let turn = Turn { ticks: (before * TICKS) as u64, came: self.came + row as u64 };
            before += rows.tokens(row) as f64;
            turn
        };
        (0..rows.len()).map(turn).collect()
    }

    /// Tokens of other requests that will be computed before a row that comes now.
    fn tokens_before(&self, turn: Turn) -> usize {
        self.taken_tokens + self.rows.range(..turn).map(|(_, row)| row.tokens()).sum::<usize>()
    }

    fn full(&self, tokens: usize) -> Refused {
        Refused::Full { tokens, time: self.rate.time_of(tokens) }
    }

    fn no_longer_waits(&mut self, row: &Row) {
        if row.request.waiting.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.requests -= 1;
        }
    }
}

/// Which rows make up the batch of the first one. Rows of about one length go together, as in training: those whose
/// common batch costs less than batches of their own.
fn with_the_first(lengths: &[usize], batch_tokens: usize) -> Vec<bool> {
    let mut order: Vec<usize> = (0..lengths.len()).collect();
    order.sort_by_key(|row| lengths[*row]);
    let ascending: Vec<usize> = order.iter().map(|row| lengths[*row]).collect();
    let mut chosen = vec![false; lengths.len()];
    let mut start = 0;
    for end in passes_within(&ascending, batch_tokens, PASS_OVERHEAD_TOKENS) {
        if order[start..end].contains(&0) {
            order[start..end].iter().for_each(|row| chosen[*row] = true);
        }
        start = end;
    }
    chosen
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rows(lengths: &[usize]) -> TokenRows {
        let mut rows = TokenRows::default();
        for (row, length) in lengths.iter().enumerate() {
            rows.push(row as i64, false, None, &vec![7; *length], &vec![0; *length], 0);
        }
        rows
    }

    fn lengths(batch: &[Row]) -> Vec<usize> {
        batch.iter().map(Row::tokens).collect()
    }

    fn queue(queue_tokens: usize) -> Arc<Queue> {
        Queue::new(Bounds { queue_tokens, batch_tokens: 4096, wait: Duration::from_millis(100) }, 2)
    }

    #[test]
    fn a_short_row_does_not_go_with_a_long_one_and_none_is_passed_over() {
        let queue = queue(10_000);
        let _first = queue.ask(rows(&[5, 128, 6]), vec![0]).unwrap();
        let _second = queue.ask(rows(&[120, 7]), vec![1]).unwrap();
        assert_eq!(lengths(&queue.take().unwrap()), [5, 7, 6]);
        assert_eq!(lengths(&queue.take().unwrap()), [120, 128]);
        assert_eq!(queue.waiting(), (0, 0));
    }

    #[test]
    fn the_budget_is_of_tokens_and_a_dropped_ticket_gives_its_share_back() {
        let queue = queue(100);
        let refused = |lengths: &[usize]| queue.ask(rows(lengths), vec![0]).unwrap_err();
        assert_eq!(refused(&[60, 50]), Refused::TooLarge);
        let first = queue.ask(rows(&[40, 40]), vec![0]).unwrap();
        assert_eq!(refused(&[21]), Refused::Full { tokens: 80, time: Duration::ZERO });
        let _second = queue.ask(rows(&[20]), vec![0]).unwrap();
        drop(first);
        assert_eq!(queue.waiting(), (1, 20));
        assert_eq!(lengths(&queue.take().unwrap()), [20]);
        queue.close();
        assert!(queue.take().is_none());
    }

    #[test]
    fn what_waits_is_bounded_in_time_but_for_requests_that_take_long_themselves() {
        let queue = queue(100_000);
        let _first = queue.ask(rows(&[50; 4]), vec![0]).unwrap();
        let batch = queue.take().unwrap();
        assert_eq!(batch.len(), 4);
        // Two sessions of 1,000 tokens a second each.
        queue.computed(&batch, Duration::from_millis(200 + PASS_OVERHEAD_TOKENS as u64));
        let _within = [100; 2].map(|length| queue.ask(rows(&[length]), vec![0]).unwrap());
        let _at_the_bound = queue.ask(rows(&[10]), vec![0]).unwrap();
        let full = Refused::Full { tokens: 210, time: Duration::from_millis(105) };
        assert_eq!(queue.ask(rows(&[10]), vec![0]).unwrap_err(), full);
        // A session takes no more than half the time's worth, and has still to compute it.
        assert_eq!(lengths(&queue.take().unwrap()), [100]);
        assert_eq!(queue.ask(rows(&[10]), vec![0]).unwrap_err(), full);
        let _of_its_like = queue.ask(rows(&[30]), vec![0]).unwrap();
        assert_eq!(queue.waiting(), (3, 140));
    }

    #[test]
    fn a_small_request_comes_between_the_rows_of_a_large_one() {
        let queue = queue(100_000);
        let _first = queue.ask(rows(&[50; 4]), vec![0]).unwrap();
        let batch = queue.take().unwrap();
        // 100 ms are worth 200 tokens, and a batch takes half of that of a session's.
        queue.computed(&batch, Duration::from_millis(200 + PASS_OVERHEAD_TOKENS as u64));
        let large = queue.ask(rows(&[50; 100]), vec![0]).unwrap();
        let other = queue.ask(rows(&[50; 100]), vec![0]).unwrap();
        for _ in 0..3 {
            let batch = queue.take().unwrap();
            assert_eq!(lengths(&batch), [50]);
            queue.computed(&batch, Duration::from_millis(50 + PASS_OVERHEAD_TOKENS as u64));
        }
        let small = queue.ask(rows(&[10]), vec![0]).unwrap();
        let served = queue.take().unwrap().into_iter().chain(queue.take().unwrap()).chain(queue.take().unwrap());
        assert!(served.into_iter().any(|row| Arc::ptr_eq(&row.request, &small.request)));
        // And both large ones have had the same.
        let left = |request: &Request| request.waiting.load(Ordering::Relaxed);
        assert!(left(&large.request).abs_diff(left(&other.request)) <= 1);
    }

    proptest! {
        #[test]
        fn every_row_is_taken_once_whatever_comes_and_goes(
            requests in prop::collection::vec((prop::collection::vec(2_usize..128, 1..9), any::<bool>()), 1..20),
        ) {
            let queue = queue(100_000);
            let (mut tickets, mut taken) = (Vec::new(), 0);
            for (lengths, is_dropped) in &requests {
                let ticket = queue.ask(rows(lengths), vec![0]).unwrap();
                if *is_dropped {
                    taken += queue.take().unwrap().len();
                } else {
                    tickets.push(ticket);
                }
            }
            let waiting = tickets.iter().map(|ticket| ticket.request.waiting.load(Ordering::Relaxed)).sum::<usize>();
            prop_assert_eq!(waiting, queue.waiting().0);
            prop_assert_eq!(lock(&queue.state).requests, tickets.iter().filter(|ticket| ticket.request.waiting.load(Ordering::Relaxed) > 0).count());
            queue.close();
            let mut rest = 0;
            while let Some(batch) = queue.take() {
                rest += batch.len();
            }
            prop_assert_eq!(rest, waiting);
            prop_assert_eq!((queue.waiting(), lock(&queue.state).requests), ((0, 0), 0));
            let all: usize = requests.iter().map(|(lengths, _)| lengths.len()).sum();
            prop_assert!(rest + taken <= all);
        }

        #[test]
        fn the_first_row_always_goes_and_a_batch_is_within_its_bound(
            lengths in prop::collection::vec(2_usize..128, 1..200),
            batch_tokens in 1_usize..2000,
        ) {
            let chosen = with_the_first(&lengths, batch_tokens);
            prop_assert!(chosen[0]);
            let batch: Vec<usize> = lengths.iter().zip(&chosen).filter(|(_, chosen)| **chosen).map(|(length, _)| *length).collect();
            prop_assert!(batch.len() == 1 || batch.len() * batch.iter().max().unwrap() <= batch_tokens);
        }
    }
}
