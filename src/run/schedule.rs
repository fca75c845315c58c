//! Which of the stages that are ready start, and with what.

use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::path::Path;
use std::rc::Rc;

use bam_contract::artifact::encoder::layers_and_width;
use bam_contract::stage::{Precision, StageSpec, TrainParams};
use bytesize::ByteSize;

use super::readers;
use crate::pipeline::{Gpus, Pipeline, Resources, Stage};
use crate::span::Span;
use crate::ui::units::bytes;

/// What a run may use.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    pub(crate) threads: usize,
    pub(crate) memory_bytes: u64,
    /// As `CUDA_VISIBLE_DEVICES` names them.
    pub(crate) gpus: Vec<String>,
    /// Most stages at a time.
    pub(crate) jobs: usize,
    /// `auto`, `cpu`, `cuda` …
    pub(crate) device: String,
    /// Where stages run on a cluster, what those of each kind are given there if their file doesn't say. The cluster shares
    /// out its machines itself; this run bounds the number of jobs.
    pub(crate) cluster: Option<BTreeMap<String, Resources>>,
}

/// As much as anybody asks for.
pub(crate) const PLENTY: usize = 1 << 40;

/// Bytes that a stage takes which has never run, rather too many than too few. A training keeps four numbers for each
/// weight (itself, its gradient, two moments), and activations; with more threads, up to three more gradients. What else reads a
/// model keeps it once, and activations.
fn memory_guess(stage: &Stage, threads: usize) -> u64 {
    const MIB: u64 = 1 << 20;
    let is_weights = |path: &Path| path.extension().is_some_and(|extension| extension == "safetensors");
    let weights = stage.externals.iter().filter(|file| is_weights(&file.path));
    let weights: u64 = weights.filter_map(|file| Some(fs::metadata(&file.path).ok()?.len())).sum();
    match &stage.spec {
        StageSpec::Train(params) => 512 * MIB + (5 + threads.clamp(1, 4) as u64) * weights + activations(params),
        StageSpec::Predict(_) | StageSpec::Score(_) | StageSpec::Export(_) => 1024 * MIB,
        _ => 256 * MIB,
    }
}

/// Bytes of a training's activations: as measured (docs/performance.md), 35 of bf16 for each number of a token in each layer. A layer
/// that is computed again keeps what it was given alone.
fn activations(params: &TrainParams) -> u64 {
    /// Of a row, at most, as `tokenize` has it by default.
    const ROW_TOKENS: usize = 128;
    const BYTES: usize = 36;
    const BYTES_GIVEN: usize = 4;
    let Some((layers, width)) = params.encoder.as_deref().and_then(layers_and_width) else { return 0 };
    let tokens = (params.batch * ROW_TOKENS).min(params.pass_tokens);
    let of_layers = if params.recompute { BYTES + layers * BYTES_GIVEN } else { layers * BYTES };
    let in_fp32 = if params.precision == Precision::Fp32 { 2 } else { 1 };
    (tokens * width * of_layers * in_fp32) as u64
}

/// What a stage took when it last ran.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Last {
    pub(crate) secs: f64,
    pub(crate) peak_memory_bytes: u64,
    /// How much longer it is to take, by its epochs.
    pub(crate) factor: f64,
    /// Whether it read other rows, or had other settings than its epochs.
    pub(crate) is_of_other: bool,
}

/// What a stage needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Needs {
    pub(crate) threads: usize,
    pub(crate) memory_bytes: u64,
    /// Whether something is known of its memory; of a program of the user's that never ran nothing is.
    pub(crate) is_memory_known: bool,
    pub(crate) gpus: Gpus,
    /// Of one job of a cluster.
    pub(crate) time: Option<Span>,
}

/// What a stage under way was given. Dropped, it is free again.
#[derive(Debug)]
pub(super) struct Grant {
    pub(super) threads: usize,
    pub(super) memory_bytes: u64,
    pub(super) is_memory_known: bool,
    pub(super) gpus: Vec<String>,
    /// How many it needs: on a cluster their names aren't known here.
    pub(super) gpu_count: usize,
    pub(super) time: Option<Span>,
    /// Of each of them, in thousandths.
    share: usize,
    free: Rc<RefCell<Free>>,
}

/// What a run may use, and how much of it is free.
#[derive(Debug)]
pub(super) struct Capacity {
    limits: Limits,
    free: Rc<RefCell<Free>>,
}

#[derive(Debug)]
struct Free {
    threads: usize,
    memory_bytes: u64,
    /// Thousandths of each.
    gpus: Vec<(String, usize)>,
    jobs: usize,
}

impl Limits {
    /// What a stage needs: as declared, else by these rules. Threads: the stages of a family share the run's, so that
    /// they run side by side; one for kinds that use no more, and for programs of the user's. It depends on the file and the machine alone, for the number of threads changes a
    /// training's bits. Memory: what the stage took the last time, else a guess. A GPU for kinds that compute with
    /// tensors.
    pub(crate) fn needs(&self, stage: &Stage, last_peak_bytes: Option<u64>) -> Needs {
        let is_program = matches!(stage.spec, StageSpec::Exec(_));
        let is_known = |own: Option<ByteSize>| own.is_some() || last_peak_bytes.is_some() || !is_program;
        if let Some(given) = &self.cluster {
            let own = stage.resources.or(given.get(stage.spec.kind().name).copied().unwrap_or_default());
            let threads = own.threads.unwrap_or(1);
            // A job that takes more than it asked for is ended.
            let with_room = |peak: u64| (peak + peak / 2).max(LEAST_BYTES);
            let guess = || last_peak_bytes.map_or_else(|| memory_guess(stage, threads), with_room);
            return Needs {
                threads,
                memory_bytes: own.memory.map_or_else(guess, |memory| memory.as_u64()),
                is_memory_known: is_known(own.memory),
                gpus: own.gpus.unwrap_or_default(),
                time: own.time,
            };
        }
        let computes = matches!(stage.spec, StageSpec::Train(_) | StageSpec::Predict(_) | StageSpec::Score(_));
        let gpus = Gpus::whole(usize::from(computes && self.device != "cpu" && !self.gpus.is_empty()));
        let threads = stage.resources.threads.unwrap_or_else(|| self.share_of(stage));
        Needs {
            threads,
            memory_bytes: match stage.resources.memory {
                Some(memory) => memory.as_u64(),
                None => last_peak_bytes.unwrap_or_else(|| memory_guess(stage, threads)),
            },
            is_memory_known: is_known(stage.resources.memory),
            gpus: stage.resources.gpus.unwrap_or(gpus),
            time: None,
        }
    }
}

/// What a job asks for at least.
const LEAST_BYTES: u64 = 256 << 20;

impl Limits {
    fn share_of(&self, stage: &Stage) -> usize {
        match stage.spec {
            StageSpec::Train(_) | StageSpec::Predict(_) | StageSpec::Score(_) | StageSpec::Tokenize(_) => {
                (self.threads / stage.siblings).max(1)
            }
            _ => 1,
        }
    }
}

impl Capacity {
    pub(super) fn new(limits: Limits) -> Self {
        let Limits { threads, memory_bytes, ref gpus, jobs, .. } = limits;
        let (_, whole) = Gpus::whole(1).parts();
        let gpus = gpus.iter().map(|name| (name.clone(), whole)).collect();
        let free = Free { threads, memory_bytes, gpus, jobs };
        Self { limits, free: Rc::new(RefCell::new(free)) }
    }

    pub(super) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Takes what the stage needs, if there is as much. One that needs more than the run has is given all of it, once
    /// nothing else runs: so every stage runs in the end.
    pub(super) fn take(&self, stage: &Stage, last_peak_bytes: Option<u64>) -> Option<Grant> {
        let needs = self.limits.needs(stage, last_peak_bytes);
        let threads = needs.threads.min(self.limits.threads);
        let memory_bytes = needs.memory_bytes.min(self.limits.memory_bytes);
        let (count, share) = needs.gpus.min(Gpus::whole(self.limits.gpus.len())).parts();
        let mut free = self.free.borrow_mut();
        let gpus = free.gpus_with(share, count)?;
        if free.jobs == 0 || threads > free.threads || memory_bytes > free.memory_bytes {
            return None;
        }
        free.jobs -= 1;
        free.threads -= threads;
        free.memory_bytes -= memory_bytes;
        for (_, left) in free.gpus.iter_mut().filter(|(name, _)| gpus.contains(name)) {
            *left -= share;
        }
        let (gpu_count, _) = needs.gpus.parts();
        let (is_memory_known, time, free) = (needs.is_memory_known, needs.time, self.free.clone());
        Some(Grant { threads, memory_bytes, is_memory_known, gpus, gpu_count, time, share, free })
    }

    /// Whether nothing more can start, however little it needs.
    pub(super) fn is_exhausted(&self) -> bool {
        let free = self.free.borrow();
        free.jobs == 0 || free.threads == 0
    }

    /// What the stage asks for, or is expected to take, beyond what the run has: `4 threads of 2`.
    pub(super) fn lacks(&self, stage: &Stage, last_peak_bytes: Option<u64>) -> Option<String> {
        let (limits, needs) = (&self.limits, self.limits.needs(stage, last_peak_bytes));
        let threads =
            (needs.threads > limits.threads).then(|| format!("{} threads of {}", needs.threads, limits.threads));
        let memory = (needs.memory_bytes > limits.memory_bytes).then(|| {
            let about = if stage.resources.memory.is_none() { "about " } else { "" };
            format!("{about}{} of {} memory", bytes(needs.memory_bytes), bytes(limits.memory_bytes))
        });
        let count = limits.gpus.len();
        let gpus = (limits.cluster.is_none() && needs.gpus > Gpus::whole(count))
            .then(|| format!("{} GPUs of {count}", needs.gpus));
        let lacks: Vec<String> = threads.into_iter().chain(memory).chain(gpus).collect();
        (!lacks.is_empty()).then(|| lacks.join(" and "))
    }
}

impl Free {
    /// So many GPUs of which that share is free: first those of which the most is.
    fn gpus_with(&self, share: usize, count: usize) -> Option<Vec<String>> {
        let mut fitting: Vec<_> = self.gpus.iter().filter(|(_, left)| *left >= share).collect();
        fitting.sort_by_key(|(_, left)| Reverse(*left));
        (fitting.len() >= count).then(|| fitting[..count].iter().map(|(name, _)| name.clone()).collect())
    }
}

impl Drop for Grant {
    fn drop(&mut self) {
        let mut free = self.free.borrow_mut();
        free.jobs += 1;
        free.threads += self.threads;
        free.memory_bytes += self.memory_bytes;
        for (_, left) in free.gpus.iter_mut().filter(|(name, _)| self.gpus.contains(name)) {
            *left += self.share;
        }
    }
}

/// Seconds that each stage will take: as the last time, else as the others of its kind do, else as all others.
fn expected_secs(pipeline: &Pipeline, last_secs: &[Option<f64>]) -> Vec<f64> {
    let mut of_kinds = HashMap::<&str, (f64, f64)>::new();
    for (stage, secs) in pipeline.stages.iter().zip(last_secs) {
        if let Some(secs) = secs {
            for kind in [stage.spec.kind().name, ANY] {
                let (sum, count) = of_kinds.entry(kind).or_default();
                (*sum, *count) = (*sum + secs, *count + 1.0);
            }
        }
    }
    let mean = |kind: &str| of_kinds.get(kind).map(|(sum, count)| sum / count);
    let guess = |stage: &Stage| mean(stage.spec.kind().name).or_else(|| mean(ANY)).unwrap_or(1.0);
    pipeline.stages.iter().zip(last_secs).map(|(stage, secs)| secs.unwrap_or_else(|| guess(stage))).collect()
}

/// Stands for all kinds.
const ANY: &str = "";

/// Seconds until all stages that run are done, side by side as far as the limits allow; `last_secs` of the others is
/// nothing to wait for.
pub(crate) fn makespan(pipeline: &Pipeline, runs: &[bool], last: &[Option<Last>], limits: &Limits) -> f64 {
    let last_secs: Vec<Option<f64>> = last.iter().map(|last| last.map(|last| last.secs * last.factor)).collect();
    let (own, chains) = (expected_secs(pipeline, &last_secs), chains(pipeline, &last_secs));
    let capacity = Capacity::new(limits.clone());
    let order = by_chain(&chains);
    let ranks = ranks(&order);
    let readers = readers(pipeline);
    let awaited = |stage: &Stage| stage.inputs.iter().filter(|edge| runs[edge.stage]).count();
    let mut awaited: Vec<usize> = pipeline.stages.iter().map(awaited).collect();
    let mut ready: BTreeSet<usize> =
        (0..runs.len()).filter(|at| runs[*at] && awaited[*at] == 0).map(|at| ranks[at]).collect();
    let mut working: Vec<(f64, usize, Grant)> = Vec::new();
    let mut now = 0.0;
    loop {
        for rank in ready.iter().copied().collect::<Vec<_>>() {
            if capacity.is_exhausted() {
                break;
            }
            let at = order[rank];
            let grant = capacity.take(&pipeline.stages[at], last[at].map(|last| last.peak_memory_bytes));
            if let Some(grant) = grant {
                ready.remove(&rank);
                working.push((now + own[at], at, grant));
            }
        }
        let Some(next) = (0..working.len()).min_by(|a, b| working[*a].0.total_cmp(&working[*b].0)) else { return now };
        let (end, at, _grant) = working.swap_remove(next);
        now = end;
        for reader in readers[at].iter().filter(|reader| runs[**reader]) {
            awaited[*reader] -= 1;
            if awaited[*reader] == 0 {
                ready.insert(ranks[*reader]);
            }
        }
    }
}

/// Stages in the order in which those that are ready start: the beginnings of long chains first, else as they stand.
pub(super) fn by_chain(chains: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..chains.len()).collect();
    order.sort_by(|a, b| chains[*b].total_cmp(&chains[*a]));
    order
}

/// Which place each stage has in an order.
pub(super) fn ranks(order: &[usize]) -> Vec<usize> {
    let mut ranks = vec![0; order.len()];
    for (rank, at) in order.iter().enumerate() {
        ranks[*at] = rank;
    }
    ranks
}

/// For each stage, the seconds from its start to the end of the longest chain of stages that it begins.
pub(crate) fn chains(pipeline: &Pipeline, last_secs: &[Option<f64>]) -> Vec<f64> {
    let own = expected_secs(pipeline, last_secs);
    let mut chains = own.clone();
    // Stages stand after those they read.
    for at in (0..chains.len()).rev() {
        for edge in &pipeline.stages[at].inputs {
            chains[edge.stage] = chains[edge.stage].max(own[edge.stage] + chains[at]);
        }
    }
    chains
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    /// The trainings of docs/performance.md's table of memory, in MiB.
    #[test]
    fn a_training_is_guessed_to_take_what_was_measured_and_little_more() {
        let folder = tempfile::tempdir().unwrap();
        let encoder = folder.path().join("minilm");
        fs::create_dir(&encoder).unwrap();
        let config = r#"{"model_type": "bert", "num_hidden_layers": 6, "hidden_size": 384}"#;
        fs::write(encoder.join("config.json"), config).unwrap();
        fs::write(encoder.join("vocab.txt"), "[PAD]\n").unwrap();
        File::create(encoder.join("model.safetensors")).unwrap().set_len(90_868_376).unwrap();
        let guess = |more: &str| {
            let file = folder.path().join("pipeline.yaml");
            let text = format!(
                "seed: 1\nvars: {{ encoder: {} }}\nstages:\n  \
                 rows: {{ data: {{ task: sentiment, grammar: {{ train: 9, dev: 9 }} }} }}\n  \
                 tokens: {{ tokenize: {{ examples: rows, encoder: $encoder }} }}\n  \
                 model: {{ train: {{ tokens: [tokens], encoder: $encoder{more} }} }}\n",
                encoder.display()
            );
            fs::write(&file, text).unwrap();
            let pipeline = Pipeline::load(&file, &[]).unwrap();
            let stage = pipeline.stages.iter().find(|stage| stage.name == "model").unwrap();
            memory_guess(stage, 2) >> 20
        };
        for (more, measured) in [
            (", batch: 128", 1_521),
            (", batch: 128, pass_tokens: 1024", 1_076),
            (", batch: 128, recompute: true", 1_028),
            (", batch: 128, recompute: true, pass_tokens: 1024", 993),
        ] {
            let guess = guess(more);
            assert!((measured..measured * 4 / 3).contains(&guess), "{more}: {guess} MiB guessed, {measured} measured");
        }
        let (small, large) = (guess(", batch: 8"), guess(", batch: 32, precision: fp32"));
        assert!(small < guess("") && guess("") < large, "{small}, {large}");
    }
}
