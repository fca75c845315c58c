//! Where the examples of one split go, up to the stage's `limit`.

use anyhow::Result;
use bam_contract::artifact::examples::{Example, ExamplesWriter};
use bam_contract::fault::Fault;
use bam_contract::job::Job;
use bam_contract::task::{Split, TaskSpec};

#[derive(Debug)]
pub(super) struct Outlet {
    pub(super) split: Split,
    writer: ExamplesWriter,
    /// Rows that still fit; `usize::MAX` without a limit.
    room: usize,
}

impl Outlet {
    pub(super) fn create(job: &Job, task: &TaskSpec, split: Split, limit: Option<usize>) -> Result<Self> {
        let writer = ExamplesWriter::create(&job.output, split, task, job.fingerprint)?;
        Ok(Self { split, writer, room: limit.unwrap_or(usize::MAX) })
    }

    pub(super) fn is_full(&self) -> bool {
        self.room == 0
    }

    /// Writes the example, or drops it when the limit is reached.
    pub(super) fn push(&mut self, example: Example) -> Result<()> {
        if self.is_full() {
            return Ok(());
        }
        self.room -= 1;
        self.writer.push(example)
    }

    /// Ends the file; the split and its number of rows.
    ///
    /// # Errors
    /// When `source` had no rows for the split.
    pub(super) fn finish(self, source: &str) -> Result<(Split, usize)> {
        let split = self.split;
        match self.writer.finish()? {
            0 => {
                let hint = "a split needs at least one row: is the file cut short, or its share in `split` too small?";
                Err(Fault::new(format!("{source} holds no {split} rows"), hint).into())
            }
            rows => Ok((split, rows)),
        }
    }
}
