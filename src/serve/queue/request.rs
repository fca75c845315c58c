//! Requests, their rows, and what has been answered of them.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bam_contract::artifact::tokens::TokenRows;
use tokio::sync::oneshot;

use crate::mutex::lock;

/// One row of a request.
#[derive(Clone, Debug)]
pub(in crate::serve) struct Row {
    pub(in crate::serve) request: Arc<Request>,
    pub(in crate::serve) index: usize,
}

/// The rows of a request, and what has been answered of them.
#[derive(Debug)]
pub(in crate::serve) struct Request {
    pub(in crate::serve) rows: TokenRows,
    /// Which heads are asked.
    pub(in crate::serve) tasks: Vec<usize>,
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
pub(in crate::serve) struct Answered {
    /// Outputs by row and task.
    pub(in crate::serve) logits: Vec<Vec<Vec<f32>>>,
    /// From the queue to the first batch.
    pub(in crate::serve) wait: Duration,
    /// From there to the end of the last.
    pub(in crate::serve) compute: Duration,
}

impl Row {
    pub(super) fn tokens(&self) -> usize {
        self.request.rows.tokens(self.index)
    }
}

impl Request {
    /// A request whose rows all wait, and where its answer will come.
    pub(super) fn new(rows: TokenRows, tasks: Vec<usize>) -> (Arc<Self>, oneshot::Receiver<Outcome>) {
        let (done, answered) = oneshot::channel();
        let answers =
            Answers { logits: vec![Vec::new(); rows.len()], missing: rows.len(), started: None, done: Some(done) };
        let waiting = AtomicUsize::new(rows.len());
        let request = Self { rows, tasks, queued: Instant::now(), waiting, answers: Mutex::new(answers) };
        (Arc::new(request), answered)
    }

    /// Rows that no session has taken.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// One row waits no longer; whether it was the last.
    pub(super) fn one_less_waits(&self) -> bool {
        self.waiting.fetch_sub(1, Ordering::Relaxed) == 1
    }

    /// Notes a row's outputs, of a batch that was begun then; the last one sends the answer.
    pub(in crate::serve) fn answer(&self, row: usize, logits: Vec<Vec<f32>>, started: Instant) {
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

    pub(in crate::serve) fn fail(&self, error: &str) {
        if let Some(done) = lock(&self.answers).done.take() {
            _ = done.send(Err(error.to_owned()));
        }
    }
}
