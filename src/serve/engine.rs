//! A loaded model: sessions that take batches from its queue. When nobody holds it any more, they answer what is queued
//! and end.

use std::path::Path;
use std::slice;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Instant;

use anyhow::{Context, Result};
use bam_contract::artifact::tokens::TokenRows;
use bam_inference::model::OnnxModel;
use bam_inference::session::OnnxSession;

use super::Settings;
use super::about::About;
use super::caught::caught;
use super::metrics::Metrics;
use super::queue::{Lane, Queue, Row};
use super::sessions::Sessions;
use crate::store::Store;
use crate::ui::error::warn;
use crate::ui::units::plural;

#[derive(Debug)]
pub(super) struct Engine {
    pub(super) model: Arc<OnnxModel>,
    pub(super) about: About,
    pub(super) queue: Arc<Queue>,
    /// Rows that the model was tested with.
    pub(super) probes: usize,
    /// That compute side by side.
    pub(super) sessions: usize,
    workers: Vec<JoinHandle<()>>,
}

impl Engine {
    /// Loads the model in a folder, tests it, and starts its sessions.
    pub(super) fn load(folder: &Path, settings: &Settings, store: &Store, metrics: &Metrics) -> Result<Self> {
        let folder = folder.canonicalize().with_context(|| format!("finding `{}`", folder.display()))?;
        let model = Arc::new(OnnxModel::open(&folder)?);
        let Sessions { shared, whole, probes, of_a_row: (tokens, time) } = Sessions::load(&model, settings.sessions)?;
        let (sessions, queue) = (shared.len(), Queue::new(settings.queue, shared.len()));
        queue.assume(tokens, time);
        let about = About::new(&folder, model.info.fingerprint, store);
        let mut engine = Self { model, about, queue, probes, sessions, workers: Vec::new() };
        for session in shared {
            engine.start(session, Lane::Shared, metrics)?;
        }
        if let Some(session) = whole {
            engine.start(session, Lane::Whole, metrics)?;
        }
        Ok(engine)
    }

    fn start(&mut self, session: OnnxSession, lane: Lane, metrics: &Metrics) -> Result<()> {
        let (model, queue, metrics) = (self.model.clone(), self.queue.clone(), metrics.clone());
        let worker = Worker { model, queue, metrics, lane };
        let thread = thread::Builder::new().name("session".to_owned());
        self.workers.push(thread.spawn(move || worker.work(session)).context("starting a session's thread")?);
        Ok(())
    }

    /// Whether there are all sessions: one that ended over a batch would be waited for by the others.
    pub(super) fn works(&self) -> bool {
        self.workers.iter().all(|worker| !worker.is_finished())
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.queue.close();
    }
}

/// A session's thread.
struct Worker {
    model: Arc<OnnxModel>,
    queue: Arc<Queue>,
    metrics: Metrics,
    lane: Lane,
}

impl Worker {
    fn work(&self, mut session: OnnxSession) {
        while let Some(batch) = self.queue.take(self.lane) {
            let started = Instant::now();
            self.serve(&mut session, &batch, started);
            self.queue.computed(&batch, started.elapsed(), self.lane);
        }
    }

    /// Answers a batch. One that can't be computed is tried row by row: a row must not fail those that came with it.
    fn serve(&self, session: &mut OnnxSession, batch: &[Row], started: Instant) {
        let rows = plural(batch.len(), "row");
        let answered = match caught(|| self.compute(session, batch)) {
            Err(error) if batch.len() > 1 => {
                warn(&error.context(format!("a batch of {rows} can't be computed together")));
                return batch.iter().for_each(|row| self.serve(session, slice::from_ref(row), started));
            }
            Err(error) => Err(error),
            Ok(by_task) => caught(|| {
                self.answer(batch, &by_task, started);
                Ok(())
            }),
        };
        if let Err(error) = answered {
            warn(&error.context(format!("a batch of {rows} can't be computed")));
            for row in batch {
                row.request.fail("the model can't compute this; the server's log says why");
            }
        }
    }

    /// Outputs by head, of all rows; none of heads that nobody asked.
    fn compute(&self, session: &mut OnnxSession, batch: &[Row]) -> Result<Vec<Vec<f32>>> {
        let heads = &self.model.info.tasks;
        let asked: Vec<usize> =
            (0..heads.len()).filter(|head| batch.iter().any(|row| row.request.tasks.contains(head))).collect();
        let names: Vec<&str> = asked.iter().map(|head| heads[*head].name.as_str()).collect();
        let rows: Vec<(&TokenRows, usize)> = batch.iter().map(|row| (&row.request.rows, row.index)).collect();
        let mut by_task = vec![Vec::new(); heads.len()];
        for (head, outputs) in asked.into_iter().zip(self.model.run(session, &rows, &names)?) {
            by_task[head] = outputs;
        }
        Ok(by_task)
    }

    fn answer(&self, batch: &[Row], by_task: &[Vec<f32>], started: Instant) {
        let lengths: Vec<usize> = batch.iter().map(|row| row.request.rows.tokens(row.index)).collect();
        self.metrics.batch(&lengths);
        let heads = &self.model.info.tasks;
        for (place, row) in batch.iter().enumerate() {
            let of_head = |head: &usize| {
                let outputs = heads[*head].outputs();
                by_task[*head][place * outputs..(place + 1) * outputs].to_vec()
            };
            let logits: Vec<Vec<f32>> = row.request.tasks.iter().map(of_head).collect();
            if logits.iter().flatten().all(|logit| logit.is_finite()) {
                row.request.answer(row.index, logits, started);
            } else {
                row.request.fail(&format!("the model's answer to input {} is not a number", row.index));
            }
        }
    }
}
