//! Rows that wait for a session, of all requests and tasks, bounded by their tokens and by how long those will take.
//!
//! Requests share the sessions: the rows of a large one are spread over the time that it takes at an equal share, so that
//! small ones come in between (fair queueing by virtual time, as networks do it).

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bam_contract::artifact::tokens::TokenRows;
use bam_inference::padding::passes_within;
use tokio::sync::oneshot;

use super::rate::{LAST_BATCH, Rate};

/// What a pass of ONNX Runtime costs beside its tokens, in tokens: measured for a small encoder on one core and on two. It
/// moves only what goes together.
const PASS_OVERHEAD_TOKENS: usize = 16;
/// Rows that are divided into batches together may take this share of the time that requests may wait, on one session: what
/// comes meanwhile comes after them.
const SHARE: f64 = 0.33;

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
    /// The next batches, of rows that were the first: they come before all others.
    batches: VecDeque<Vec<Row>>,
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
    /// What a token costs in a batch of several rows, the others' padding and the pass itself included; in tokens, lately.
    cost: f64,
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
            batches: VecDeque::new(),
            requests: 0,
            now: 0.0,
            came: 0,
            tokens: 0,
            taken_tokens: 0,
            rate: Rate::new(sessions),
            cost: 1.0,
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
        if state.time_of(before) > wait && before > TIMES_ITS_OWN * (tokens + PASS_OVERHEAD_TOKENS) {
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

    /// The next batch. Waits for one; none once the queue is closed and empty.
    pub(super) fn take(&self) -> Option<Vec<Row>> {
        let mut state = lock(&self.state);
        let batch = loop {
            if state.batches.is_empty() {
                state.make_batches(&self.bounds);
            }
            match state.batches.pop_front() {
                Some(batch) => break batch,
                None if state.closed => return None,
                None => state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            }
        };
        let tokens = tokens_of(&batch);
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
        let (tokens, cost) = (tokens_of(batch), batch.len() * longest + PASS_OVERHEAD_TOKENS);
        let mut state = lock(&self.state);
        state.taken_tokens -= tokens;
        state.rate.note(cost, time);
        // One alone, on a server that has little to do, doesn't tell what those of a queue will cost.
        if batch.len() > 1 {
            state.cost += LAST_BATCH * (cost as f64 / tokens as f64 - state.cost);
        }
    }

    /// Lets sessions end when all is answered.
    pub(super) fn close(&self) {
        lock(&self.state).closed = true;
        self.changed.notify_all();
    }

    /// Rows and tokens that wait.
    pub(super) fn waiting(&self) -> (usize, usize) {
        let state = lock(&self.state);
        (state.rows.len() + state.batches.iter().map(Vec::len).sum::<usize>(), state.tokens)
    }

    fn forget(&self, request: &Arc<Request>) {
        if request.waiting.load(Ordering::Relaxed) == 0 {
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
        let in_batches = self.batches.iter().map(|batch| tokens_of(batch)).sum::<usize>();
        self.taken_tokens + in_batches + self.rows.range(..turn).map(|(_, row)| row.tokens()).sum::<usize>()
    }

    /// Divides the first rows into batches. Since all of them come before the rest, a row is passed over by none that comes
    /// later, but for those that are divided with it.
    fn make_batches(&mut self, bounds: &Bounds) {
        let budget = bounds.batch_tokens.min(self.rate.tokens_in(bounds.wait.mul_f64(SHARE / self.cost)));
        let (mut first, mut tokens) = (Vec::new(), 0);
        while let Some(row) = self.rows.first_entry() {
            tokens += row.get().tokens();
            if tokens > budget && !first.is_empty() {
                break;
            }
            first.push(row.remove());
        }
        self.batches = batches_of(first, budget).into();
    }

    /// How long so many tokens of rows that wait will take.
    fn time_of(&self, tokens: usize) -> Duration {
        self.rate.time_of(tokens).mul_f64(self.cost)
    }

    fn full(&self, tokens: usize) -> Refused {
        Refused::Full { tokens, time: self.time_of(tokens) }
    }

    fn no_longer_waits(&mut self, row: &Row) {
        if row.request.waiting.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.requests -= 1;
        }
    }
}

/// Batches of rows of about one length, as in training: those whose common batch costs less than batches of their own. That
/// of the first row comes first.
fn batches_of(rows: Vec<Row>, batch_tokens: usize) -> Vec<Vec<Row>> {
    let mut order: Vec<usize> = (0..rows.len()).collect();
    order.sort_by_key(|row| rows[*row].tokens());
    let ascending: Vec<usize> = order.iter().map(|row| rows[*row].tokens()).collect();
    let mut batch_of = vec![0; rows.len()];
    let ends = passes_within(&ascending, batch_tokens, PASS_OVERHEAD_TOKENS);
    let mut start = 0;
    for (batch, end) in ends.iter().enumerate() {
        order[start..*end].iter().for_each(|row| batch_of[*row] = batch);
        start = *end;
    }
    let mut batches = vec![Vec::new(); ends.len()];
    let mut firsts = Vec::new();
    for (row, batch) in rows.into_iter().zip(batch_of) {
        if batches[batch].is_empty() {
            firsts.push(batch);
        }
        batches[batch].push(row);
    }
    firsts.into_iter().map(|batch| std::mem::take(&mut batches[batch])).collect()
}

fn tokens_of(batch: &[Row]) -> usize {
    batch.iter().map(Row::tokens).sum()
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
        fn rows_that_come_later_pass_none_over_but_those_they_are_divided_with(
            requests in prop::collection::vec(2_usize..128, 2..60),
            batch_tokens in 1_usize..2000,
        ) {
            let bounds = Bounds { queue_tokens: 100_000, batch_tokens, wait: Duration::from_millis(100) };
            let queue = Queue::new(bounds, 1);
            let ask = |length: &usize| queue.ask(rows(&[*length]), vec![0]).unwrap();
            let tickets: Vec<Ticket> = requests.iter().map(ask).collect();
            let mut first_waiting = 0;
            let mut is_taken = vec![false; requests.len()];
            queue.close();
            while let Some(batch) = queue.take() {
                let longest = lengths(&batch).into_iter().max().unwrap();
                prop_assert!(batch.len() == 1 || batch.len() * longest <= batch_tokens);
                for row in &batch {
                    let came = tickets.iter().position(|ticket| Arc::ptr_eq(&ticket.request, &row.request)).unwrap();
                    is_taken[came] = true;
                    let passed_over = (first_waiting..came).filter(|before| !is_taken[*before]);
                    prop_assert!(passed_over.map(|before| requests[before]).sum::<usize>() <= batch_tokens);
                }
                while is_taken.get(first_waiting) == Some(&true) {
                    first_waiting += 1;
                }
            }
        }
    }
}
