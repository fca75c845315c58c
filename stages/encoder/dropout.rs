//! Dropout whose masks come from a seed alone, made on all threads at once.
//!
//! libtorch draws them one after the other on one thread, which took a sixth of a training step. A mask is drawn in
//! blocks with a generator of their own each, so that it doesn't depend on who draws them. Each part of a batch that is divided
//! among threads has masks of its own, so that what is dropped depends on the number of parts. A GPU has kernels for it, and a
//! generator of libtorch's, which is given the seed.

use std::cell::Cell;

use rayon::prelude::*;
use tch::{Device, Kind, Tensor};

/// The dropout of one forward pass.
#[derive(Debug)]
pub(crate) struct Dropout {
    /// None where nothing is dropped.
    seed: Option<u64>,
    /// Masks drawn so far; each has its own stream.
    drawn: Cell<u64>,
    /// Whether libtorch's generator draws, which goes on by itself.
    is_of_gpu: bool,
}

/// Where a dropout stood.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mark(u64);

/// Elements that one generator draws.
const BLOCK: usize = 4096;

impl Dropout {
    pub(crate) fn off() -> Self {
        Self { seed: None, drawn: Cell::new(0), is_of_gpu: false }
    }

    /// Of a forward pass on that device.
    pub(crate) fn seeded(seed: u64, device: Device) -> Self {
        let is_of_gpu = device != Device::Cpu;
        if is_of_gpu {
            tch::manual_seed(seed as i64);
        }
        Self { seed: Some(seed), drawn: Cell::new(0), is_of_gpu }
    }

    /// Of a part of a batch, each of which has numbers of its own; none are dropped without a seed.
    pub(crate) fn of_part(seed: Option<u64>, part: usize, device: Device) -> Self {
        let of_part = |seed: u64| if part == 0 { seed } else { mixed(seed ^ mixed(part as u64)) };
        seed.map_or_else(Self::off, |seed| Self::seeded(of_part(seed), device))
    }

    /// Where it stands, to drop the same again.
    pub(crate) fn mark(&self) -> Mark {
        if let Some(seed) = self.seed.filter(|_| self.is_of_gpu) {
            self.drawn.set(self.drawn.get() + 1);
            tch::manual_seed(mixed(seed ^ mixed(self.drawn.get())) as i64);
        }
        Mark(self.drawn.get())
    }

    /// Drops from there on what it dropped from there on before.
    pub(crate) fn rewind(&self, mark: Mark) {
        self.drawn.set(mark.0);
        if let Some(seed) = self.seed.filter(|_| self.is_of_gpu) {
            tch::manual_seed(mixed(seed ^ mixed(mark.0)) as i64);
        }
    }

    pub(super) fn is_on(&self) -> bool {
        self.seed.is_some()
    }

    /// The probability that a kernel which drops by itself drops with, where that is `p` in training.
    pub(super) fn of_kernel(&self, p: f64) -> f64 {
        if self.is_on() { p } else { 0.0 }
    }

    /// Drops elements of `x` with probability `p` and scales the others, so that the mean stays.
    pub(super) fn apply(&self, x: &Tensor, p: f64) -> Tensor {
        if x.device() != Device::Cpu {
            return x.dropout(p, self.is_on());
        }
        match self.mask(x, p) {
            Some(mask) => x * mask,
            None => x.shallow_clone(),
        }
    }

    /// `residual + apply(x, p)`.
    pub(super) fn add(&self, residual: &Tensor, x: &Tensor, p: f64) -> Tensor {
        if x.device() != Device::Cpu {
            return residual + self.apply(x, p);
        }
        match self.mask(x, p) {
            Some(mask) => residual.addcmul(x, &mask),
            None => residual + x,
        }
    }

    fn mask(&self, x: &Tensor, p: f64) -> Option<Tensor> {
        let seed = self.seed.filter(|_| p > 0.0)?;
        let stream = mixed(seed ^ mixed(self.drawn.replace(self.drawn.get() + 1)));
        let scale = Scale::nearest(p, x.kind());
        let mask = Tensor::empty(x.size(), (x.kind(), Device::Cpu));
        let elements = mask.numel();
        // SAFETY: the tensor was just made, is contiguous, holds that many elements of that size, and nothing else
        // refers to it yet.
        unsafe {
            match x.kind() {
                Kind::BFloat16 => {
                    let words = std::slice::from_raw_parts_mut(mask.data_ptr().cast::<u16>(), elements);
                    fill(words, scale.p, ((scale.factor as f32).to_bits() >> 16) as u16, stream);
                }
                Kind::Float => {
                    let words = std::slice::from_raw_parts_mut(mask.data_ptr().cast::<u32>(), elements);
                    fill(words, scale.p, (scale.factor as f32).to_bits(), stream);
                }
                kind => unreachable!("activations are bf16 or fp32, not {kind:?}"),
            }
        }
        Some(mask)
    }
}

/// What kept elements are multiplied by, and the probability of dropping that leaves the mean as it is.
struct Scale {
    factor: f64,
    p: f64,
}

impl Scale {
    /// In bf16 1 / (1 - 0.1) is no number. The nearest one is taken, with the probability that belongs to it (0.0986):
    /// a mean that stays matters more to what is learnt than the rate's third digit.
    fn nearest(p: f64, kind: Kind) -> Self {
        let factor = (1.0 - p).recip() as f32;
        let factor = match kind {
            Kind::BFloat16 => f32::from_bits(factor.to_bits().wrapping_add(0x8000) & 0xffff_0000),
            _ => factor,
        };
        Self { factor: f64::from(factor), p: 1.0 - f64::from(factor).recip() }
    }
}

/// Writes `kept` with probability `1 - p` and zero otherwise.
fn fill<T: Copy + Default + Send + Sync>(words: &mut [T], p: f64, kept: T, stream: u64) {
    let threshold = (p * 65536.0).round() as u64;
    words.par_chunks_mut(BLOCK).enumerate().for_each(|(block, words)| {
        let mut state = mixed(stream ^ block as u64);
        // Sixteen bits an element.
        for four in words.chunks_mut(4) {
            state = state.wrapping_add(GOLDEN);
            let bits = mixed(state);
            for (at, word) in four.iter_mut().enumerate() {
                let is_kept = (bits >> (16 * at)) & 0xffff >= threshold;
                *word = if is_kept { kept } else { T::default() };
            }
        }
    });
}

const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// The finalizer of `SplitMix64` (Steele, Lea and Flood 2014): neighbouring inputs give unrelated outputs.
pub(crate) fn mixed(bits: u64) -> u64 {
    let bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ones(size: &[i64], kind: Kind) -> Tensor {
        Tensor::ones(size, (kind, Device::Cpu))
    }

    #[test]
    fn the_share_that_is_dropped_and_the_mean_are_right() {
        for kind in [Kind::Float, Kind::BFloat16] {
            let dropped = Dropout::seeded(7, Device::Cpu).apply(&ones(&[1000, 1001], kind), 0.1).to_kind(Kind::Double);
            // Six standard errors of a share near 0.1 over a million elements.
            let zeros = dropped.eq(0.0).to_kind(Kind::Double).mean(Kind::Double).double_value(&[]);
            assert!((zeros - Scale::nearest(0.1, kind).p).abs() < 0.0018, "{kind:?}: {zeros}");
            assert!((zeros - 0.1).abs() < 0.004, "{kind:?}: {zeros}");
            let mean = dropped.mean(Kind::Double).double_value(&[]);
            assert!((mean - 1.0).abs() < 0.002, "{kind:?}: {mean}");
        }
    }

    #[test]
    fn each_mask_is_another_and_the_seed_decides() {
        let x = ones(&[50, 60], Kind::Float);
        let (one, same, other) =
            (Dropout::seeded(1, Device::Cpu), Dropout::seeded(1, Device::Cpu), Dropout::seeded(2, Device::Cpu));
        let first = one.apply(&x, 0.5);
        assert_eq!(first, same.apply(&x, 0.5));
        assert_ne!(first, one.apply(&x, 0.5));
        assert_ne!(first, other.apply(&x, 0.5));
    }

    #[test]
    fn the_same_is_dropped_again_from_a_mark_on() {
        let (dropout, x) = (Dropout::seeded(1, Device::Cpu), ones(&[50, 60], Kind::Float));
        _ = dropout.apply(&x, 0.5);
        let mark = dropout.mark();
        let first = [dropout.apply(&x, 0.5), dropout.apply(&x, 0.5)];
        dropout.rewind(mark);
        assert_eq!(first, [dropout.apply(&x, 0.5), dropout.apply(&x, 0.5)]);
    }

    #[test]
    fn neighbouring_elements_and_rows_are_dropped_independently() {
        let kept =
            Dropout::seeded(3, Device::Cpu).apply(&ones(&[4096, 64], Kind::Float), 0.5).gt(0.0).to_kind(Kind::Double);
        for (dimension, size) in [(0, 4096), (1, 64)] {
            let both = kept.narrow(dimension, 0, size - 1) * kept.narrow(dimension, 1, size - 1);
            let share = both.mean(Kind::Double).double_value(&[]);
            assert!((share - 0.25).abs() < 0.006, "dimension {dimension}: {share}");
        }
    }

    #[test]
    fn a_residual_is_added_as_it_is() {
        let (residual, x) = (ones(&[40, 50], Kind::Float) * 3.0, ones(&[40, 50], Kind::Float));
        let added = Dropout::seeded(5, Device::Cpu).add(&residual, &x, 0.1);
        let applied = Dropout::seeded(5, Device::Cpu).apply(&x, 0.1);
        assert!(added.allclose(&(residual + applied), 1e-6, 1e-6, false));
    }

    #[test]
    fn nothing_is_dropped_where_it_is_off_or_never() {
        let x = ones(&[7, 9], Kind::Float);
        assert_eq!(Dropout::off().apply(&x, 0.5), x);
        assert_eq!(Dropout::seeded(1, Device::Cpu).apply(&x, 0.0), x);
    }
}
