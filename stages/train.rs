//! `train`: an encoder with one head per task, with teachers or without.

mod adamw;
mod evaluate;
mod gradients;
mod history;
mod loss;
mod rates;
#[cfg(test)]
mod reference_tests;
mod sampler;
mod step;
mod training_set;
mod words;

use std::time::Instant;

use anyhow::{Result, ensure};
use bam_contract::artifact::checkpoint::ModelInfo;
use bam_contract::fault::Fault;
use bam_contract::job::Job;
use bam_contract::stage::{Keep, TrainParams};
use tch::Tensor;

use crate::encoder::dropout::mixed;
use crate::encoder::{CheckpointFiles, Dropout, Model, NewModel, device, write_checkpoint};
use crate::report::{Outcome, Reporter};
use adamw::AdamW;
use evaluate::{DevScore, Evaluator, mean_headline};
use history::{History, Step};
use rates::Schedule;
use sampler::Sampler;
use training_set::TrainingSet;
use words::word_ids;

pub(crate) fn run(params: &TrainParams, job: &Job, reporter: &Reporter) -> Result<Outcome> {
    let started = Instant::now();
    let device = device::by_name(&job.device)?;
    let set = TrainingSet::open(params, job)?;
    let new_model = NewModel {
        encoder: &params.encoder,
        layers: params.layers,
        tasks: set.tasks().cloned().collect(),
        regression_output: params.regression_output,
        precision: params.precision,
        seed: seed_of(params.seed, Stream::Heads, 0) as i64,
    };
    let mut model = new_model.open(device)?;
    set.check_fits(&model)?;

    let schedule = Schedule::new(params, set.rows());
    let mut optimizer = AdamW::new(&model, params);
    let mut sampler = Sampler::new(&set.task_rows(), params.sampling, params.seed);
    let evaluator = Evaluator::open(&set)?;
    ensure!(
        params.keep != Keep::Best || evaluator.has_rows(),
        Fault::new(
            "`keep: best` compares dev metrics, but no task has a dev split",
            "say `keep: last`, or add dev rows"
        )
    );
    let mut history = History::default();
    let mut best: Option<Best> = None;
    let mut last_scores = Vec::new();
    let mut trained_rows = 0;

    for step in 0..schedule.steps {
        let batch = sampler.draw(schedule.batch_rows(step));
        let gold_share = params.anneal.gold_share(schedule.progress(step));
        let step_started = Instant::now();

        optimizer.catch_up(&mut model, &word_ids(&set, &batch));
        let dropout = Dropout::seeded(seed_of(params.seed, Stream::Dropout, step));
        let (loss, gradients) = step::loss_and_gradients(&model, &set, &batch, gold_share, params, &dropout);
        let gradient_norm = gradients.norm();
        ensure_finite(loss, gradient_norm, step)?;
        let learning_rate = schedule.learning_rate(step);
        optimizer.step(&mut model, &gradients, learning_rate, gradient_norm);

        trained_rows += batch.len();
        let rows_per_sec = batch.len() as f64 / step_started.elapsed().as_secs_f64();
        let epoch = schedule.epoch(step);
        history.push(Step { index: step, epoch, loss, gold_share, learning_rate, gradient_norm, rows_per_sec });
        let detail = format!(
            "epoch {}/{} loss {loss:.3} λ {gold_share:.2} {:.0} rows/s",
            epoch.ceil().max(1.0),
            params.epochs.ceil(),
            trained_rows as f64 / started.elapsed().as_secs_f64(),
        );
        reporter.progress(step + 1, schedule.steps, "step", detail);

        if schedule.ends_epoch(step) {
            optimizer.settle(&mut model);
            last_scores = evaluator.scores(&model);
            history.evaluated(last_scores.clone());
            let mean = mean_headline(&last_scores);
            if params.keep == Keep::Best && best.as_ref().is_none_or(|best| mean > mean_headline(&best.scores)) {
                best = Some(Best::of(&model, last_scores.clone()));
            }
        }
    }
    let scores = match best {
        Some(best) => best.restore(&mut model),
        None => last_scores,
    };
    for score in &scores {
        reporter.metric(&format!("dev/{}", score.name), score.value);
    }
    let info = ModelInfo {
        fingerprint: job.fingerprint,
        tasks: set.tasks().cloned().collect(),
        regression_output: params.regression_output,
        max_tokens: set.max_tokens(),
    };
    write_checkpoint(&CheckpointFiles { folder: &job.output, tokenizer: &params.encoder }, &model, &info)?;
    history.write(&job.output, job.fingerprint)?;
    let outcome = Outcome::from(summary(&scores));
    Ok(outcome
        .with("steps", schedule.steps)
        .with("rows_per_second", trained_rows as f64 / started.elapsed().as_secs_f64())
        .with("device", device::name(device)))
}

/// Independent random streams of one seed.
#[derive(Clone, Copy)]
enum Stream {
    Heads,
    Dropout,
}

/// The seed of a stream at a step. Each step has its own, so that a stage can go on from any step without
/// the state of a generator.
fn seed_of(seed: u64, stream: Stream, step: u64) -> u64 {
    mixed(seed ^ (stream as u64).rotate_left(56) ^ step.wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

fn ensure_finite(loss: f64, gradient_norm: f64, step: u64) -> Result<()> {
    let hint = "lower `learning_rate`, lengthen `warmup`, or train with `precision: fp32`";
    ensure!(
        loss.is_finite() && gradient_norm.is_finite(),
        Fault::new(format!("training diverged at step {step}: loss {loss}, gradient norm {gradient_norm}"), hint)
    );
    Ok(())
}

/// The weights of the best epoch so far, and its scores.
struct Best {
    weights: Vec<Tensor>,
    scores: Vec<DevScore>,
}

impl Best {
    fn of(model: &Model, scores: Vec<DevScore>) -> Self {
        let weights = model.parameters.iter().map(|parameter| parameter.tensor.detach().copy()).collect();
        Self { weights, scores }
    }

    fn restore(self, model: &mut Model) -> Vec<DevScore> {
        tch::no_grad(|| {
            for (parameter, weights) in model.parameters.iter_mut().zip(&self.weights) {
                parameter.tensor.copy_(weights);
            }
        });
        model.refresh();
        self.scores
    }
}

/// `dev rte/accuracy 66.1`, or the mean over several tasks.
fn summary(scores: &[DevScore]) -> String {
    let headlines: Vec<_> = scores.iter().filter(|score| score.is_headline).collect();
    match headlines.as_slice() {
        [] => "no dev rows".to_owned(),
        [only] => format!("dev {} {:.1}", only.name, only.value * 100.0),
        all => format!("{} tasks, dev mean {:.1}", all.len(), mean_headline(scores) * 100.0),
    }
}
