//! A question to the queue that is under way, on a thread of its own: workers are heard meanwhile.

use std::sync::mpsc::{self, Receiver, TryRecvError};
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result};

use super::job::JobId;
use super::program::{Answer, PATIENCE, Words, ask};

#[derive(Debug)]
pub(super) struct Survey {
    pub(super) jobs: Vec<JobId>,
    pub(super) since: Instant,
    answers: Receiver<Result<Vec<Answer>>>,
}

impl Survey {
    /// Asks these questions about jobs, one after the other. Where one finds no answer, the others are left out.
    pub(super) fn start(jobs: Vec<JobId>, questions: Vec<Words>) -> Result<Self> {
        let (sender, answers) = mpsc::channel();
        let since = Instant::now();
        let work = move || drop(sender.send(questions.iter().map(|words| ask(words, PATIENCE)).collect()));
        thread::Builder::new().name("queue".to_owned()).spawn(work).context("starting a thread")?;
        Ok(Self { jobs, since, answers })
    }

    /// What was said, once it is.
    pub(super) fn answers(&self) -> Option<Result<Vec<Answer>>> {
        match self.answers.try_recv() {
            Ok(answers) => Some(answers),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => Some(Err(anyhow::anyhow!("the thread that asks it has ended"))),
        }
    }
}
