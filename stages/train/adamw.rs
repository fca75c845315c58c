//! Adam with decoupled weight decay (Loshchilov and Hutter 2019), after clipping by the global norm.
//!
//! With gradient g, moments m and v, learning rate r and step t from 1:
//! `m = β1 m + (1 - β1) g`, `v = β2 v + (1 - β2) g²`, `w = w - r (m̂ / (√v̂ + ε) + d w)`,
//! where m̂ = m / (1 - β1^t) and v̂ = v / (1 - β2^t) with bias correction, m and v without.

use bam_contract::stage::TrainParams;
use rayon::prelude::*;
use tch::{Device, Kind, Tensor};

use super::rates::layer_rate;
use crate::encoder::{Model, Parameter};

const BETA_1: f64 = 0.9;
const BETA_2: f64 = 0.999;
const EPSILON: f64 = 1e-6;

#[derive(Debug)]
pub(super) struct AdamW {
    states: Vec<State>,
    clip_norm: f64,
    bias_correction: bool,
    steps: i32,
}

/// Moments and settings of one parameter.
#[derive(Debug)]
struct State {
    first: Tensor,
    second: Tensor,
    /// Learning rate relative to the heads'.
    rate: f64,
    weight_decay: f64,
}

/// The numbers of one update of one parameter.
#[derive(Clone, Copy, Debug)]
struct Update {
    gradient_scale: f64,
    /// Learning rate over the first moment's bias correction.
    step_size: f64,
    /// Square root of the second moment's bias correction.
    root_correction: f64,
    /// What is left of a weight after its decay.
    kept: f64,
}

impl AdamW {
    pub(super) fn new(model: &Model, params: &TrainParams) -> Self {
        let layers = model.config.num_hidden_layers;
        let state = |parameter: &Parameter| {
            let is_decayed = !parameter.name.split('.').any(|part| part == "bias" || part == "LayerNorm");
            State {
                first: parameter.tensor.zeros_like(),
                second: parameter.tensor.zeros_like(),
                rate: layer_rate(&parameter.name, layers, params.layer_decay),
                weight_decay: if is_decayed { params.weight_decay } else { 0.0 },
            }
        };
        Self {
            states: model.parameters.iter().map(state).collect(),
            clip_norm: params.clip_norm,
            bias_correction: params.bias_correction,
            steps: 0,
        }
    }

    /// One update of all parameters with gradients of that norm; the gradients are zero afterwards.
    ///
    /// A head whose task wasn't in the batch has no gradient yet and stays as it is.
    pub(super) fn step(&mut self, model: &mut Model, learning_rate: f64, gradient_norm: f64) {
        self.steps += 1;
        let correction = |beta: f64| if self.bias_correction { 1.0 - beta.powi(self.steps) } else { 1.0 };
        let gradient_scale = (self.clip_norm / (gradient_norm + 1e-6)).min(1.0);
        for (parameter, state) in model.parameters.iter_mut().zip(&mut self.states) {
            let mut gradient = parameter.tensor.grad();
            if !gradient.defined() {
                continue;
            }
            let rate = learning_rate * state.rate;
            let update = Update {
                gradient_scale,
                step_size: rate / correction(BETA_1),
                root_correction: correction(BETA_2).sqrt(),
                kept: 1.0 - rate * state.weight_decay,
            };
            tch::no_grad(|| match parameter.tensor.device() {
                Device::Cpu => update.in_one_pass(&mut parameter.tensor, &mut gradient, state),
                _ => update.by_tensors(&mut parameter.tensor, &mut gradient, state),
            });
        }
    }
}

/// Global L2 norm of the gradients, before clipping.
pub(super) fn gradient_norm(model: &Model) -> f64 {
    let gradients = model.parameters.iter().map(|parameter| parameter.tensor.grad());
    let norms: Vec<_> = gradients.filter(Tensor::defined).map(|gradient| gradient.norm()).collect();
    Tensor::stack(&norms, 0).norm().double_value(&[])
}

/// Elements a thread updates at a time: its four streams stay within a core's cache.
const CHUNK: usize = 16 * 1024;

impl Update {
    /// One pass over weight, gradient and moments: the update is bound by memory, and tensor operations
    /// would read and write each of them several times.
    fn in_one_pass(self, weight: &mut Tensor, gradient: &mut Tensor, state: &mut State) {
        let update = |weight: &mut f32, gradient: &mut f32, first: &mut f32, second: &mut f32| {
            let g = *gradient * self.gradient_scale as f32;
            *first = BETA_1 as f32 * *first + (1.0 - BETA_1) as f32 * g;
            *second = BETA_2 as f32 * *second + (1.0 - BETA_2) as f32 * g * g;
            let denominator = second.sqrt() / self.root_correction as f32 + EPSILON as f32;
            *weight = *weight * self.kept as f32 - self.step_size as f32 * *first / denominator;
            *gradient = 0.0;
        };
        let chunks = elements(weight).par_chunks_mut(CHUNK).zip(elements(gradient).par_chunks_mut(CHUNK));
        let moments =
            elements(&mut state.first).par_chunks_mut(CHUNK).zip(elements(&mut state.second).par_chunks_mut(CHUNK));
        chunks.zip(moments).for_each(|((weights, gradients), (firsts, seconds))| {
            let pairs = weights.iter_mut().zip(gradients).zip(firsts.iter_mut().zip(seconds));
            pairs.for_each(|((weight, gradient), (first, second))| update(weight, gradient, first, second));
        });
    }

    /// The same by tensor operations, on any device.
    fn by_tensors(self, weight: &mut Tensor, gradient: &mut Tensor, state: &mut State) {
        let clipped = &*gradient * self.gradient_scale;
        _ = state.first.g_mul_scalar_(BETA_1).g_add_(&(&clipped * (1.0 - BETA_1)));
        _ = state.second.g_mul_scalar_(BETA_2).g_add_(&(clipped.square() * (1.0 - BETA_2)));
        let denominator = state.second.sqrt() / self.root_correction + EPSILON;
        _ = weight.g_mul_scalar_(self.kept).g_sub_(&(&state.first / denominator * self.step_size));
        _ = gradient.zero_();
    }
}

/// The elements of a contiguous fp32 tensor on the CPU.
fn elements(tensor: &mut Tensor) -> &mut [f32] {
    assert!(tensor.device() == Device::Cpu && tensor.kind() == Kind::Float && tensor.is_contiguous());
    // SAFETY: the tensor owns that many contiguous floats, the slice lives no longer than the exclusive
    // borrow, and nothing in libtorch runs meanwhile.
    unsafe { std::slice::from_raw_parts_mut(tensor.data_ptr().cast(), tensor.numel()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UPDATE: Update = Update { gradient_scale: 0.5, step_size: 0.1, root_correction: 0.8, kept: 0.99 };

    fn state(first: &[f32], second: &[f32]) -> State {
        State { first: Tensor::from_slice(first), second: Tensor::from_slice(second), rate: 1.0, weight_decay: 0.1 }
    }

    /// g = 1, m = 0.9 + 0.1 = 1, v = 0.999 * 4 + 0.001 = 3.997; w = 0.99 * 2 - 0.1 / (√3.997 / 0.8 + 1e-6).
    #[test]
    fn one_weight_by_hand() {
        let (mut weight, mut gradient) = (Tensor::from_slice(&[2.0_f32]), Tensor::from_slice(&[2.0_f32]));
        let mut state = state(&[1.0], &[4.0]);
        UPDATE.in_one_pass(&mut weight, &mut gradient, &mut state);
        let by_hand = 1.98 - 0.1 / (3.997_f64.sqrt() / 0.8 + 1e-6);
        assert!((weight.double_value(&[0]) - by_hand).abs() < 1e-6);
        assert!((state.first.double_value(&[0]) - 1.0).abs() < 1e-6);
        assert!((state.second.double_value(&[0]) - 3.997).abs() < 1e-5);
        assert_eq!(gradient.double_value(&[0]).abs(), 0.0);
    }

    #[test]
    fn one_pass_equals_tensor_operations() {
        tch::manual_seed(3);
        for size in [1, CHUNK as i64 + 7] {
            let fresh = || Tensor::randn([size], (Kind::Float, Device::Cpu));
            let (weight, gradient, first, second) = (fresh(), fresh(), fresh(), fresh().square());
            let run = |update: fn(Update, &mut Tensor, &mut Tensor, &mut State)| {
                let (mut weight, mut gradient) = (weight.copy(), gradient.copy());
                let mut state = State { first: first.copy(), second: second.copy(), rate: 1.0, weight_decay: 0.1 };
                update(UPDATE, &mut weight, &mut gradient, &mut state);
                (weight, state)
            };
            let (one, one_state) = run(Update::in_one_pass);
            let (other, other_state) = run(Update::by_tensors);
            assert!(one.allclose(&other, 1e-5, 1e-6, false));
            assert!(one_state.first.allclose(&other_state.first, 1e-5, 1e-6, false));
            assert!(one_state.second.allclose(&other_state.second, 1e-5, 1e-6, false));
        }
    }
}
