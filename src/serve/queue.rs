//! Rows that wait for a session, of all requests and tasks, bounded by their tokens and by how long those will take.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bam_contract::artifact::tokens::TokenRows;
use bam_inference::padding::passes_within;
use tokio::sync::oneshot;

use super::rate::Rate;

/// The oldest rows, among which a batch is chosen; bounds what the choice costs.
const WINDOW_ROWS: usize = 256;
/// What a pass of ONNX Runtime costs beside its tokens, in tokens: measured for a small encoder on one core and on two. It
/// moves only what goes together.
const PASS_OVERHEAD_TOKENS: usize = 16;
/// A batch may take this share of the time that requests may wait, so that what comes during a batch is in the next.
const BATCH_SHARE: f64 = 0.5;

/// A request may wait for as many times its own tokens, however long they take: else large ones, and slow models, would
/// have one client at a time.
const TIMES_ITS_OWN: usize = 8;

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
    rows: VecDeque<Row>,
    /// Of the rows that wait, and of those that sessions have taken and not yet computed.
    tokens: usize,
    taken_tokens: usize,
    rate: Rate,
    closed: bool,
}

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
    pub(super) queued: Instant,
    answers: Mutex<Answers>,
}

#[derive(Debug)]
struct Answers {
    /// Outputs by row, and by task in the order of `tasks`.
    logits: Vec<Vec<Vec<f32>>>,
    missing: usize,
    wait: Duration,
    compute: Duration,
    done: Option<oneshot::Sender<Outcome>>,
}

pub(super) type Outcome = Result<Answered, String>;

#[derive(Debug)]
pub(super) struct Answered {
    /// Outputs by row and task.
    pub(super) logits: Vec<Vec<Vec<f32>>>,
    /// From the queue to the first batch.
    pub(super) wait: Duration,
    pub(super) compute: Duration,
}

/// Why rows are not taken in.
#[derive(Debug, PartialEq)]
pub(super) enum Refused {
    /// They will never fit.
    TooLarge,
    /// So many tokens wait already, for so long.
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
    /// Notes a row's outputs; the last one sends the answer.
    pub(super) fn answer(&self, row: usize, logits: Vec<Vec<f32>>, started: Instant, compute: Duration) {
        let mut answers = lock(&self.answers);
        answers.logits[row] = logits;
        answers.missing -= 1;
        answers.wait = answers.wait.min(started - self.queued);
        answers.compute += compute;
        if answers.missing == 0
            && let Some(done) = answers.done.take()
        {
            let logits = std::mem::take(&mut answers.logits);
            // Nobody may be waiting any more.
            _ = done.send(Ok(Answered { logits, wait: answers.wait, compute: answers.compute }));
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
        let state =
            State { rows: VecDeque::new(), tokens: 0, taken_tokens: 0, rate: Rate::new(sessions), closed: false };
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
        let answers = Answers {
            logits: vec![Vec::new(); rows.len()],
            missing: rows.len(),
            wait: Duration::MAX,
            compute: Duration::ZERO,
            done: Some(done),
        };
        let request = Arc::new(Request { rows, tasks, queued: Instant::now(), answers: Mutex::new(answers) });
        let mut state = lock(&self.state);
        let before = state.tokens + state.taken_tokens;
        let time = state.rate.time_of(before);
        if state.tokens + tokens > queue_tokens || (time > wait && before > TIMES_ITS_OWN * tokens) {
            return Err(Refused::Full { tokens: state.tokens, time });
        }
        state.tokens += tokens;
        state.rows.extend((0..request.rows.len()).map(|index| Row { request: request.clone(), index }));
        drop(state);
        self.changed.notify_all();
        Ok(Ticket { queue: self.clone(), request, answered })
    }

    /// The next batch: the oldest row, and those that are best computed with it. Waits for one; none once the queue is
    /// closed and empty.
    pub(super) fn take(&self) -> Option<Vec<Row>> {
        let mut state = lock(&self.state);
        while state.rows.is_empty() {
            if state.closed {
                return None;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let window = state.rows.len().min(WINDOW_ROWS);
        let oldest: Vec<Row> = state.rows.drain(..window).collect();
        let lengths: Vec<usize> = oldest.iter().map(Row::tokens).collect();
        let in_time = state.rate.tokens_in(self.bounds.wait.mul_f64(BATCH_SHARE));
        let chosen = with_the_oldest(&lengths, self.bounds.batch_tokens.min(in_time));
        let (batch, rest): (Vec<_>, Vec<_>) = oldest.into_iter().zip(chosen).partition(|(_, chosen)| *chosen);
        for (row, _) in rest.into_iter().rev() {
            state.rows.push_front(row);
        }
        let batch: Vec<Row> = batch.into_iter().map(|(row, _)| row).collect();
        let tokens: usize = batch.iter().map(Row::tokens).sum();
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
        let mut state = lock(&self.state);
        let mut freed = 0;
        state.rows.retain(|row| {
            let stays = !Arc::ptr_eq(&row.request, request);
            freed += if stays { 0 } else { row.tokens() };
            stays
        });
        state.tokens -= freed;
    }
}

/// Which rows make up the batch of the first one. Rows of about one length go together, as in training: those whose
/// common batch costs less than batches of their own.
fn with_the_oldest(lengths: &[usize], batch_tokens: usize) -> Vec<bool> {
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
        assert_eq!(lengths(&queue.take().unwrap()), [5, 6, 7]);
        assert_eq!(lengths(&queue.take().unwrap()), [128, 120]);
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
        let _within = queue.ask(rows(&[100; 2]), vec![0]).unwrap();
        let _at_the_bound = queue.ask(rows(&[10]), vec![0]).unwrap();
        let full = |tokens| Refused::Full { tokens, time: Duration::from_millis(105) };
        assert_eq!(queue.ask(rows(&[10]), vec![0]).unwrap_err(), full(210));
        // A session takes no more than half the time's worth, and has still to compute it.
        assert_eq!(lengths(&queue.take().unwrap()), [100]);
        assert_eq!(queue.ask(rows(&[10]), vec![0]).unwrap_err(), full(110));
        let _of_its_like = queue.ask(rows(&[30]), vec![0]).unwrap();
        assert_eq!(queue.waiting(), (3, 140));
    }

    proptest! {
        #[test]
        fn the_oldest_row_always_goes_and_a_batch_is_within_its_bound(
            lengths in prop::collection::vec(2_usize..128, 1..200),
            batch_tokens in 1_usize..2000,
        ) {
            let chosen = with_the_oldest(&lengths, batch_tokens);
            prop_assert!(chosen[0]);
            let batch: Vec<usize> = lengths.iter().zip(&chosen).filter(|(_, chosen)| **chosen).map(|(length, _)| *length).collect();
            prop_assert!(batch.len() == 1 || batch.len() * batch.iter().max().unwrap() <= batch_tokens);
        }
    }
}
