//! Adam with decoupled weight decay (Loshchilov and Hutter 2019), after clipping by the global norm.
//!
//! With gradient g, moments m and v, learning rate r and step t from 1:
//! `m = β1 m + (1 - β1) g`, `v = β2 v + (1 - β2) g²`, `w = w - r (m̂ / (√v̂ + ε) + d w)`,
//! where m̂ = m / (1 - β1^t) and v̂ = v / (1 - β2^t) with bias correction, m and v without.

use bam_contract::stage::TrainParams;
use rayon::prelude::*;
use tch::{Device, Kind, Tensor};

use super::gradients::Gradients;
use super::rates::layer_rate;
use super::words::WORDS;
use crate::encoder::{Leaf, Model, device::upload, refresh};
use crate::libtorch::{self, Leaves};

mod table;

use table::Table;

const BETA_1: f64 = 0.9;
const BETA_2: f64 = 0.999;
const EPSILON: f64 = 1e-6;
/// Keeps a norm of zero from being divided by.
const CLIP_EPSILON: f64 = 1e-6;

#[derive(Debug)]
pub(super) struct AdamW {
    /// Of each leaf of the model, in its order.
    leaves: Vec<(Group, Moments)>,
    words: (Group, Table),
    clip_norm: f64,
    bias_correction: bool,
    steps: i32,
}

/// Settings of one leaf.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Group {
    /// Learning rate relative to the heads'.
    rate: f64,
    weight_decay: f64,
}

#[derive(Debug)]
struct Moments {
    first: Tensor,
    second: Tensor,
}

impl Moments {
    fn zero(of: &Tensor) -> Self {
        Self { first: of.zeros_like(), second: of.zeros_like() }
    }
}

/// The numbers of one update of one leaf.
#[derive(Clone, Copy, Debug)]
struct Update {
    gradient_scale: f32,
    /// Learning rate over the first moment's bias correction.
    step_size: f32,
    /// Square root of the second moment's bias correction.
    root_correction: f32,
    /// What is left of a weight after its decay.
    kept: f32,
}

impl AdamW {
    pub(super) fn new(model: &Model, params: &TrainParams) -> Self {
        let layers = model.config.num_hidden_layers;
        let group = |name: &str| {
            let is_decayed = !name.split('.').any(|part| part == "bias" || part == "LayerNorm");
            Group {
                rate: layer_rate(name, layers, params.layer_decay),
                weight_decay: if is_decayed { params.weight_decay } else { 0.0 },
            }
        };
        let leaf = |leaf: &Leaf| (group(&leaf.name), Moments::zero(&leaf.master));
        Self {
            leaves: model.leaves.iter().map(leaf).collect(),
            words: (group(WORDS), Table::new(&model.words_vd)),
            clip_norm: params.clip_norm,
            bias_correction: params.bias_correction,
            steps: 0,
        }
    }

    /// One update of all weights with gradients of that norm.
    ///
    /// What is frozen, and a head whose task wasn't in the batch, has no gradient and stays as it is. On the CPU, words that weren't
    /// in the batch are updated when they come again, or by [`Self::settle`].
    pub(super) fn step(
        &mut self,
        model: &mut Model,
        gradients: &Gradients,
        learning_rate: f64,
        gradient_norm: &Tensor,
    ) {
        let at_once = model.device != Device::Cpu;
        self.step_either_way(at_once, model, gradients, learning_rate, gradient_norm);
    }

    pub(super) fn step_either_way(
        &mut self,
        at_once: bool,
        model: &mut Model,
        gradients: &Gradients,
        learning_rate: f64,
        gradient_norm: &Tensor,
    ) {
        self.steps += 1;
        if at_once {
            self.step_at_once(model, gradients, learning_rate, gradient_norm);
        } else {
            self.step_one_by_one(model, gradients, learning_rate, gradient_norm.double_value(&[]));
        }
        let updated = model.leaves.iter().zip(&gradients.leaves).filter(|(_, gradient)| gradient.is_some());
        refresh(updated.map(|(leaf, _)| leaf));
    }

    fn step_one_by_one(&mut self, model: &mut Model, gradients: &Gradients, learning_rate: f64, gradient_norm: f64) {
        let (steps, bias_correction) = (self.steps, self.bias_correction);
        let correction = |beta: f64| if bias_correction { 1.0 - beta.powi(steps) } else { 1.0 };
        let gradient_scale = (self.clip_norm / (gradient_norm + CLIP_EPSILON)).min(1.0);
        let update = |group: Group| {
            let rate = learning_rate * group.rate;
            Update {
                gradient_scale: gradient_scale as f32,
                step_size: (rate / correction(BETA_1)) as f32,
                root_correction: correction(BETA_2).sqrt() as f32,
                kept: (1.0 - rate * group.weight_decay) as f32,
            }
        };
        for ((leaf, (group, moments)), gradient) in model.leaves.iter_mut().zip(&mut self.leaves).zip(&gradients.leaves)
        {
            let Some(gradient) = gradient else { continue };
            let update = update(*group);
            tch::no_grad(|| update.in_one_pass(&mut leaf.master, gradient, moments));
        }
        if let Some(words_ud) = &gradients.words_ud {
            let (group, table) = &mut self.words;
            table.step(&mut model.words_vd, gradients.words.ids(), words_ud, update(*group));
        }
    }

    /// A GPU takes longer to begin an operation than to update a leaf, so that it updates all of a rate together, and nobody waits to
    /// learn the norm.
    fn step_at_once(&self, model: &Model, gradients: &Gradients, learning_rate: f64, gradient_norm: &Tensor) {
        // Bias correction fades; long after the first step there is none.
        let steps = if self.bias_correction { f64::from(self.steps) } else { 1e9 };
        let steps = Tensor::full([] as [i64; 0], steps, (Kind::Float, model.device));
        let gradient_divisor = ((gradient_norm + CLIP_EPSILON) / self.clip_norm).clamp_min(1.0);
        let words_vd = gradients.words_ud.as_ref().map(|words_ud| {
            let index_u = upload(gradients.words.ids(), model.device);
            model.words_vd.zeros_like().index_copy_(0, &index_u, words_ud)
        });
        let leaves = model.leaves.iter().map(|leaf| &leaf.master).zip(&self.leaves).zip(&gradients.leaves);
        let leaves = leaves
            .filter_map(|((weights, (group, moments)), gradient)| Some((*group, weights, gradient.as_ref()?, moments)));
        let (group, table) = &self.words;
        let words = words_vd.iter().map(|gradient| (*group, &model.words_vd, gradient, table.moments()));
        let mut alike: Vec<(Group, Leaves<'_>)> = Vec::new();
        for (group, weights, gradient, moments) in leaves.chain(words) {
            let known = alike.iter().position(|(known, _)| *known == group);
            let at = known.unwrap_or_else(|| {
                alike.push((group, Leaves::default()));
                alike.len() - 1
            });
            let (_, leaves) = &mut alike[at];
            leaves.weights.push(weights);
            leaves.gradients.push(gradient);
            leaves.firsts.push(&moments.first);
            leaves.seconds.push(&moments.second);
        }
        // The gradients are divided as they are read; what they were is not asked for again.
        for (Group { rate, weight_decay }, leaves) in alike {
            let (learning_rate, betas, epsilon) = (learning_rate * rate, [BETA_1, BETA_2], EPSILON);
            let update = libtorch::AdamW {
                steps: &steps,
                learning_rate,
                betas,
                weight_decay,
                epsilon,
                gradient_divisor: &gradient_divisor,
            };
            update.update(&leaves);
        }
    }

    /// Updates so far.
    pub(super) fn steps(&self) -> i32 {
        self.steps
    }

    /// All moments by name; those of the words are right after [`Self::settle`].
    pub(super) fn moments<'a>(&'a self, model: &'a Model) -> impl Iterator<Item = (String, &'a Tensor)> {
        let leaves = model.leaves.iter().zip(&self.leaves).map(|(leaf, (_, moments))| (leaf.name.as_str(), moments));
        leaves.chain([(WORDS, self.words.1.moments())]).flat_map(|(name, Moments { first, second })| {
            [(format!("first/{name}"), first), (format!("second/{name}"), second)]
        })
    }

    /// Goes on from moments in the order of [`Self::moments`], after so many updates.
    pub(super) fn restore(&mut self, moments: Vec<Tensor>, steps: i32) {
        self.steps = steps;
        let mut moments = moments.into_iter();
        let mut next = |into: &mut Tensor| into.copy_(&moments.next().expect("as many as there are"));
        for (_, Moments { first, second }) in &mut self.leaves {
            next(first);
            next(second);
        }
        let Moments { first, second } = self.words.1.restored();
        next(first);
        next(second);
    }

    /// Brings those words up to the present, before their rows are read.
    pub(super) fn catch_up(&mut self, model: &mut Model, ids: &[i64]) {
        if model.device == Device::Cpu {
            self.words.1.catch_up(&mut model.words_vd, ids);
        }
    }

    /// Brings all words up to the present, before the whole table is read.
    pub(super) fn settle(&mut self, model: &mut Model) {
        if model.device == Device::Cpu {
            self.words.1.settle(&mut model.words_vd);
        }
    }
}

/// Elements a thread updates at a time: its four streams stay within a core's cache.
const CHUNK: usize = 16 * 1024;

impl Update {
    /// One pass over weight, gradient and moments: the update is bound by memory, and tensor operations
    /// would read and write each of them several times.
    fn in_one_pass(self, weight: &mut Tensor, gradient: &Tensor, moments: &mut Moments) {
        let chunks = elements_mut(weight).par_chunks_mut(CHUNK).zip(elements(gradient).par_chunks(CHUNK));
        let moments = elements_mut(&mut moments.first)
            .par_chunks_mut(CHUNK)
            .zip(elements_mut(&mut moments.second).par_chunks_mut(CHUNK));
        chunks.zip(moments).for_each(|((weights, gradients), (firsts, seconds))| {
            let pairs = weights.iter_mut().zip(gradients).zip(firsts.iter_mut().zip(seconds));
            pairs.for_each(|((weight, gradient), (first, second))| self.of_one(weight, *gradient, first, second));
        });
    }

    #[inline]
    fn of_one(self, weight: &mut f32, gradient: f32, first: &mut f32, second: &mut f32) {
        let g = gradient * self.gradient_scale;
        *first = BETA_1 as f32 * *first + (1.0 - BETA_1) as f32 * g;
        *second = BETA_2 as f32 * *second + (1.0 - BETA_2) as f32 * g * g;
        let denominator = second.sqrt() / self.root_correction + EPSILON as f32;
        *weight = *weight * self.kept - self.step_size * *first / denominator;
    }
}

/// The elements of a contiguous fp32 tensor on the CPU.
fn elements(tensor: &Tensor) -> &[f32] {
    assert!(tensor.device() == Device::Cpu && tensor.kind() == Kind::Float && tensor.is_contiguous());
    // SAFETY: the tensor owns that many contiguous floats, and nothing in libtorch writes to them meanwhile.
    unsafe { std::slice::from_raw_parts(tensor.data_ptr().cast(), tensor.numel()) }
}

/// The same, to be written to.
fn elements_mut(tensor: &mut Tensor) -> &mut [f32] {
    assert!(tensor.device() == Device::Cpu && tensor.kind() == Kind::Float && tensor.is_contiguous());
    // SAFETY: as above; the slice lives no longer than the exclusive borrow.
    unsafe { std::slice::from_raw_parts_mut(tensor.data_ptr().cast(), tensor.numel()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UPDATE: Update = Update { gradient_scale: 0.5, step_size: 0.1, root_correction: 0.8, kept: 0.99 };

    fn moments(first: &[f32], second: &[f32]) -> Moments {
        Moments { first: Tensor::from_slice(first), second: Tensor::from_slice(second) }
    }

    /// g = 1, m = 0.9 + 0.1 = 1, v = 0.999 * 4 + 0.001 = 3.997; w = 0.99 * 2 - 0.1 / (√3.997 / 0.8 + 1e-6).
    #[test]
    fn one_weight_by_hand() {
        let (mut weight, gradient) = (Tensor::from_slice(&[2.0_f32]), Tensor::from_slice(&[2.0_f32]));
        let mut state = moments(&[1.0], &[4.0]);
        UPDATE.in_one_pass(&mut weight, &gradient, &mut state);
        let by_hand = 1.98 - 0.1 / (3.997_f64.sqrt() / 0.8 + 1e-6);
        assert!((weight.double_value(&[0]) - by_hand).abs() < 1e-6);
        assert!((state.first.double_value(&[0]) - 1.0).abs() < 1e-6);
        assert!((state.second.double_value(&[0]) - 3.997).abs() < 1e-5);
    }

    #[test]
    fn one_pass_equals_libtorchs_update() {
        tch::manual_seed(3);
        let number = |value: f64| Tensor::from(value as f32);
        for (size, steps, corrected) in [(1, 1, true), (CHUNK as i64 + 7, 5, true), (7, 5, false)] {
            let fresh = || Tensor::randn([size], (Kind::Float, Device::Cpu));
            let (weight, gradient, first, second) = (fresh(), fresh(), fresh(), fresh().square());
            let correction = |beta: f64| if corrected { 1.0 - beta.powi(steps) } else { 1.0 };
            let (rate, decay, divisor) = (0.1, 0.02, 2.0);
            let update = Update {
                gradient_scale: 1.0 / divisor as f32,
                step_size: (rate / correction(BETA_1)) as f32,
                root_correction: correction(BETA_2).sqrt() as f32,
                kept: (1.0 - rate * decay) as f32,
            };
            let mut ours = (weight.copy(), Moments { first: first.copy(), second: second.copy() });
            update.in_one_pass(&mut ours.0, &gradient, &mut ours.1);
            let leaves = Leaves {
                weights: vec![&weight],
                gradients: vec![&gradient],
                firsts: vec![&first],
                seconds: vec![&second],
            };
            let theirs = libtorch::AdamW {
                steps: &number(if corrected { f64::from(steps) } else { 1e9 }),
                learning_rate: rate,
                betas: [BETA_1, BETA_2],
                weight_decay: decay,
                epsilon: EPSILON,
                gradient_divisor: &number(divisor),
            };
            theirs.update(&leaves);
            for (ours, theirs) in [(&ours.0, &weight), (&ours.1.first, &first), (&ours.1.second, &second)] {
                assert!(ours.allclose(theirs, 1e-5, 1e-6, false), "{size} elements, corrected: {corrected}");
            }
        }
    }
}
