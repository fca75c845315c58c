//! Steps that were begun and whose measures have not been read.
//!
//! Reading a number waits for the device. A GPU works through many steps while nobody asks, so that their losses and
//! norms are read together; on the CPU each is there at once.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use bam_contract::fault::Fault;
use tch::{Device, Kind, Tensor};

use super::history::Step;

/// Steps of a GPU that are read together at most, and for how long nothing is: progress is told by then.
const MANY: usize = 32;
const LONG: Duration = Duration::from_millis(500);

#[derive(Debug)]
pub(super) struct Underway {
    steps: Vec<Started>,
    /// Loss and norm of each.
    measures: Vec<Tensor>,
    /// When the first of them began.
    since: Instant,
    many: usize,
}

/// What is known of a step as it begins.
#[derive(Debug)]
pub(super) struct Started {
    pub(super) index: u64,
    pub(super) epoch: f64,
    pub(super) gold_share: f64,
    pub(super) learning_rate: f64,
    pub(super) rows: usize,
}

impl Underway {
    pub(super) fn on(device: Device) -> Self {
        let many = if device == Device::Cpu { 1 } else { MANY };
        Self { steps: Vec::new(), measures: Vec::new(), since: Instant::now(), many }
    }

    /// A step begins.
    pub(super) fn begin(&mut self) {
        if self.steps.is_empty() {
            self.since = Instant::now();
        }
    }

    /// Loss and norm of the step that began, both without dimensions.
    pub(super) fn push(&mut self, step: Started, loss_and_norm: &[Tensor; 2]) {
        let in_double = loss_and_norm.each_ref().map(|value| value.to_kind(Kind::Double));
        self.measures.push(Tensor::stack(&in_double, 0));
        self.steps.push(step);
    }

    pub(super) fn are_many(&self) -> bool {
        self.steps.len() >= self.many || self.since.elapsed() >= LONG
    }

    /// Waits for all of them. Their speed is that of all together.
    pub(super) fn measured(&mut self) -> Result<Vec<Step>> {
        let steps = std::mem::take(&mut self.steps);
        if steps.is_empty() {
            return Ok(Vec::new());
        }
        let values = Tensor::stack(&std::mem::take(&mut self.measures), 0).to_device(Device::Cpu);
        let values = Vec::<f64>::try_from(values.flatten(0, -1))?;
        let rows: usize = steps.iter().map(|step| step.rows).sum();
        let rows_per_sec = rows as f64 / self.since.elapsed().as_secs_f64();
        let read = |(step, values): (Started, &[f64])| {
            let Started { index, epoch, gold_share, learning_rate, .. } = step;
            let (loss, gradient_norm) = (values[0], values[1]);
            ensure_finite(loss, gradient_norm, index)?;
            Ok(Step { index, epoch, loss, gold_share, learning_rate, gradient_norm, rows_per_sec })
        };
        steps.into_iter().zip(values.chunks(2)).map(read).collect()
    }
}

fn ensure_finite(loss: f64, gradient_norm: f64, step: u64) -> Result<()> {
    let hint = "lower `learning_rate`, lengthen `warmup`, or train with `precision: fp32`";
    ensure!(
        loss.is_finite() && gradient_norm.is_finite(),
        Fault::new(format!("training diverged at step {step}: loss {loss}, gradient norm {gradient_norm}"), hint)
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(index: u64) -> Started {
        Started { index, epoch: 0.5, gold_share: 1.0, learning_rate: 1e-4, rows: 4 }
    }

    #[test]
    fn steps_are_read_in_their_order_with_one_speed() {
        let mut underway = Underway::on(Device::Cuda(0));
        assert_eq!(underway.measured().unwrap().len(), 0);
        for index in 0..MANY as u64 {
            assert!(!underway.are_many());
            underway.begin();
            underway.push(step(index), &[Tensor::from(index as f64), Tensor::from(0.5_f32)]);
        }
        assert!(underway.are_many());
        let measured = underway.measured().unwrap();
        for (index, step) in measured.iter().enumerate() {
            assert_eq!((step.index, step.loss, step.gradient_norm), (index as u64, index as f64, 0.5));
            assert_eq!(step.rows_per_sec, measured[0].rows_per_sec);
        }
        assert!(!underway.are_many());
    }

    #[test]
    fn the_first_step_that_diverged_is_told() {
        let mut underway = Underway::on(Device::Cpu);
        for (index, loss) in [0.5, f64::NAN, f64::INFINITY].into_iter().enumerate() {
            underway.push(step(index as u64), &[Tensor::from(loss), Tensor::from(1.0)]);
        }
        let error = underway.measured().unwrap_err().to_string();
        assert_eq!(error, "training diverged at step 1: loss NaN, gradient norm 1");
    }
}
