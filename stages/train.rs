//! `train`: an encoder with one head per task, with teachers or without.

mod adamw;
#[cfg(test)]
mod batch_tests;
mod evaluate;
mod gradients;
mod history;
mod loss;
mod rates;
mod recompute;
#[cfg(test)]
mod reference_tests;
mod row_file;
mod sampler;
#[cfg(test)]
mod setting;
mod state;
mod step;
mod teacher;
mod training_set;
mod underway;
mod words;

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use bam_contract::artifact::checkpoint::{ModelInfo, head_for};
use bam_contract::fault::Fault;
use bam_contract::job::Job;
use bam_contract::manifest::EARLIER_SECS;
use bam_contract::stage::{Heads, TrainParams};
use bam_contract::task::TaskSpec;
use tch::Tensor;

use crate::crew::{Crew, Shared};
use crate::encoder::dropout::mixed;
use crate::encoder::{CheckpointFiles, Model, NewModel, device, precision, write_checkpoint};
use crate::report::{Outcome, Reporter};
use crate::stop::{self, Stopped};
use crate::text::{plural, thousands};
use adamw::AdamW;
use evaluate::{DevScore, Evaluator, mean_headline};
use history::{GoldShares, Step};
use rates::Schedule;
use sampler::Sampler;
use state::{Keeper, Progress};
use step::{Computation, Conditions};
use training_set::TrainingSet;
use underway::{Started, Underway};
use words::word_ids;

pub(crate) fn run(params: &TrainParams, job: &Job, reporter: &Reporter) -> Result<Outcome> {
    let started = Instant::now();
    let device = device::by_name(&job.device)?;
    let visible = std::env::var("CUDA_VISIBLE_DEVICES").unwrap_or_default();
    if let Some(text) = device::unused_gpus(&job.device, device, &visible) {
        reporter.warning(text);
    }
    let set = TrainingSet::open(params, job)?;
    let start = start(params, job)?;
    let new_model = NewModel {
        encoder: start,
        heads: kept_heads(params, job, &set)?,
        layers: params.layers.as_ref(),
        tasks: set.tasks().cloned().collect(),
        regression_output: params.regression_output,
        precision: params.precision,
        seed: seed_of(params.seed, Stream::Heads, 0) as i64,
    };
    let model = new_model.open(device)?;
    if model.has_new_pooler {
        reporter.warning(format!("the encoder in `{}` has no pooler; it gets a new one", start.display()));
    }
    set.check_fits(&model)?;
    let evaluator = Evaluator::open(&set)?;
    ensure!(
        !params.keeps_best() || evaluator.has_rows(),
        Fault::new(
            "`keep: best` and `patience` compare dev metrics, but no task has a dev split",
            "say `keep: last` without `patience`, or add dev rows"
        )
    );
    let mut training = Training::new(params, &set, model, job.threads)?;
    let mut keeper = Keeper::new(job);
    if let Some(frozen) = training.stays_frozen() {
        reporter.warning(frozen);
    }
    training.resume(&keeper, job, reporter);
    stop::watch()?;

    let (first, last) = (training.progress.steps, training.schedule.steps);
    for step in first..last {
        if training.is_out_of_patience() {
            break;
        }
        training.step(step)?;
        let ends_epoch = training.schedule.ends_epoch(step);
        let stops = stop::requested() && step + 1 < last;
        let saves = stops || keeper.is_due();
        if training.underway.are_many() || ends_epoch || saves || step + 1 == last {
            let newest = training.measure()?;
            let rows_per_sec = training.rows_since(first) / started.elapsed().as_secs_f64();
            reporter.progress(step + 1, last, "step", newest.told(params.epochs, rows_per_sec));
        }
        if ends_epoch {
            training.evaluate(&evaluator)?;
        }
        if saves {
            keeper.save(&mut training)?;
        }
        if stops {
            let [done, all] = [step + 1, last].map(|steps| thousands(steps as usize));
            return Err(Stopped(format!("stopped after step {done} of {all}")).into());
        }
    }
    let rows_per_sec = training.rows_since(first) / started.elapsed().as_secs_f64();

    let gold_shares = training.gold_shares_of_tasks();
    let (model, scores, progress) = training.finish();
    for score in &scores {
        reporter.metric(&format!("dev/{}", score.name), score.value);
    }
    let info = ModelInfo {
        fingerprint: job.fingerprint,
        tasks: set.tasks().cloned().collect(),
        regression_output: params.regression_output,
        max_tokens: set.max_tokens(),
        precision: None,
        tokenizer: None,
    };
    write_checkpoint(&CheckpointFiles { folder: &job.output, tokenizer: start }, &model, &info)?;
    progress.history.write(&job.output, &gold_shares, job.fingerprint)?;
    let resumed = if first > 0 { format!(", went on from step {first}") } else { String::new() };
    let early = (progress.steps < last).then(|| format!(", stopped after {} of {last} steps", progress.steps));
    let outcome = Outcome::from(summary(&scores) + &resumed + &early.unwrap_or_default())
        .with("steps", progress.steps)
        .with("rows_per_second", rows_per_sec)
        .with("device", device::name(device))
        .with("precision", precision::name(precision::kind_on(params.precision, device)));
    Ok(match progress.resumed {
        0 => outcome,
        resumed => outcome.with("resumed", resumed).with(EARLIER_SECS, progress.earlier_secs),
    })
}

/// The folder that a training starts from: an encoder's, or the checkpoint of another training.
fn start<'a>(params: &'a TrainParams, job: &'a Job) -> Result<&'a Path> {
    params.encoder.as_deref().map_or_else(|| Ok(job.input("init")?.path.as_path()), Ok)
}

/// All heads of the checkpoint that a training starts from, where they are kept; their labels must be the tasks' own.
fn kept_heads(params: &TrainParams, job: &Job, set: &TrainingSet) -> Result<Vec<TaskSpec>> {
    if params.heads == Heads::New {
        return Ok(Vec::new());
    }
    let init = job.input("init")?;
    let heads = ModelInfo::read(&init.path)?.tasks;
    for task in set.tasks() {
        head_for(&heads, task, &init.stage)?;
    }
    Ok(heads)
}

/// All that a training changes.
#[derive(Debug)]
struct Training<'a> {
    params: &'a TrainParams,
    set: &'a TrainingSet,
    schedule: Schedule,
    /// The first step at which nothing is frozen.
    whole_from: Option<u64>,
    sampler: Sampler,
    model: Model,
    crew: Crew,
    optimizer: AdamW,
    /// The best epoch so far, where that is kept.
    best: Option<Best>,
    underway: Underway,
    progress: Progress,
}

impl<'a> Training<'a> {
    fn new(params: &'a TrainParams, set: &'a TrainingSet, model: Model, threads: usize) -> Result<Self> {
        let schedule = Schedule::new(params, set.rows());
        Ok(Self {
            params,
            set,
            whole_from: schedule.first_whole_step(model.config.num_hidden_layers),
            schedule,
            sampler: Sampler::new(&set.task_rows(), params.sampling, params.seed),
            optimizer: AdamW::new(&model, params),
            underway: Underway::on(model.device),
            crew: Crew::new(threads, model.device)?,
            model,
            best: None,
            progress: Progress::default(),
        })
    }

    /// Goes on from a state that was kept, if there is one that can be used.
    fn resume(&mut self, keeper: &Keeper, job: &Job, reporter: &Reporter) {
        match keeper.restore(self) {
            Ok(()) => {}
            Err(error) => reporter.warning(state::unused(&job.resume, &error)),
        }
        // The batches of the steps done are drawn and left.
        for step in 0..self.progress.steps {
            self.sampler.draw(self.schedule.batch_rows(step));
        }
    }

    /// One step: batch, forward, loss, backward, clip, update. What it measured is read by [`Self::measure`].
    fn step(&mut self, step: u64) -> Result<()> {
        let Self { params, set, schedule, sampler, model, crew, optimizer, underway, progress, .. } = self;
        underway.begin();
        let batch = set.read(sampler.draw(schedule.batch_rows(step)))?;
        let words = word_ids(&batch, set.pad_id());
        optimizer.catch_up(model, &words);
        let conditions = Conditions {
            progress: schedule.progress(step),
            least_depth: schedule.least_depth(step, model.config.num_hidden_layers),
            dropout: Some(seed_of(params.seed, Stream::Dropout, step)),
        };
        let (loss, gradients) = Computation { model: Shared(model), set, batch: &batch, params, conditions }
            .loss_and_gradients(&words, crew);
        let gradient_norm = gradients.norm();
        let learning_rate = schedule.learning_rate(step);
        optimizer.step(model, &gradients, learning_rate, &gradient_norm);
        progress.steps = step + 1;
        let gold_share = gold_share(params, set, conditions.progress);
        let rows = batch.draws.len();
        underway.push(
            Started { index: step, epoch: schedule.epoch(step), gold_share, learning_rate, rows },
            &[loss, gradient_norm],
        );
        Ok(())
    }

    /// Waits for the steps begun, notes what they measured, and returns the last of them.
    fn measure(&mut self) -> Result<Step> {
        let measured = self.underway.measured()?;
        let newest = measured.last().cloned().context("no step has begun")?;
        for step in measured {
            self.progress.history.push(step);
        }
        Ok(newest)
    }

    fn evaluate(&mut self, evaluator: &Evaluator<'_>) -> Result<()> {
        self.optimizer.settle(&mut self.model);
        let scores = evaluator.scores(&self.model, &self.crew)?;
        let mean = mean_headline(&scores);
        if self.params.keeps_best() && self.best.as_ref().is_none_or(|best| mean > mean_headline(&best.scores)) {
            self.best = Some(Best::of(&self.model, scores.clone()));
        }
        self.progress.history.evaluated(scores.clone());
        self.progress.scores = scores;
        Ok(())
    }

    /// Whether the last epochs brought nothing better, those not counted in which layers were frozen. It follows from the history,
    /// which a kept state holds.
    fn is_out_of_patience(&self) -> bool {
        let is_out = |patience| {
            let from = self.whole_from?;
            Some(self.progress.history.evaluations_since_best(from) >= patience)
        };
        self.params.patience.and_then(is_out).unwrap_or(false)
    }

    /// Says so where the epochs end before all layers have thawed.
    fn stays_frozen(&self) -> Option<String> {
        let layers = self.model.config.num_hidden_layers;
        self.whole_from.is_none().then(|| {
            let lowest = match self.schedule.least_depth(self.schedule.steps - 1, layers) {
                1 => "the embeddings stay".to_owned(),
                depth => format!("the embeddings and the lowest {} stay", plural(depth - 1, "layer")),
            };
            let (epochs, needed) = (self.params.epochs, layers + 2);
            format!("`unfreeze: gradual` takes {needed} epochs to train all of {layers} layers; after {epochs}, {lowest} as they were")
        })
    }

    /// λ of the tasks for which it isn't everywhere what it is for the training: those with a curve of their own, and those without
    /// a teacher beside others with one.
    fn gold_shares_of_tasks(&self) -> Vec<GoldShares<'a>> {
        let Self { params, set, schedule, progress, .. } = self;
        let steps = || (0..progress.steps).map(|step| schedule.progress(step));
        let of_tasks = set.all().iter().map(|task| {
            let share =
                |progress| if task.teacher.is_some() { params.gold_share(&task.spec.name, progress) } else { 1.0 };
            GoldShares { task: &task.spec.name, of_steps: steps().map(share).collect() }
        });
        let of_training: Vec<f64> = steps().map(|progress| gold_share(params, set, progress)).collect();
        of_tasks.filter(|shares| shares.of_steps != of_training).collect()
    }

    /// Rows trained on since that step.
    fn rows_since(&self, first: u64) -> f64 {
        (first..self.progress.steps).map(|step| self.schedule.batch_rows(step) as f64).sum()
    }

    /// The model to keep, and its scores.
    fn finish(self) -> (Model, Vec<DevScore>, Progress) {
        let Self { mut model, best, progress, .. } = self;
        let scores = best.map_or_else(|| progress.scores.clone(), |best| best.restore(&mut model));
        (model, scores, progress)
    }
}

/// The label's share of the target at that progress, of tasks that have no curve of their own.
fn gold_share(params: &TrainParams, set: &TrainingSet, progress: f64) -> f64 {
    if set.is_taught() { params.anneal.gold_share(progress) } else { 1.0 }
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

/// The weights of the best epoch so far, and its scores.
#[derive(Debug)]
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
        model.set_weights(&self.weights);
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
