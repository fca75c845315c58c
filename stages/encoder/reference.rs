//! The tiny BERT of `tests/fixtures/make_tiny_bert.py`, and what `PyTorch` computed with it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bam_contract::artifact::tokens::TokenRows;
use bam_contract::stage::{Precision, RegressionOutput};
use bam_contract::task::TaskSpec;
use bam_contract::tasks;
use tch::{Cuda, Device, Kind, Tensor};

use super::{Model, NewModel, refresh};

pub(crate) fn fixtures() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures"))
}

/// One test at a time: all draw from libtorch's one generator of a GPU's random numbers.
static GPU: Mutex<()> = Mutex::new(());

/// The GPU, where there is one, for as long as the guard is held; what needs it is left out elsewhere.
pub(crate) fn gpu() -> Option<(Device, MutexGuard<'static, ()>)> {
    let gpu = Device::cuda_if_available();
    if gpu.is_cuda() {
        return Some((gpu, GPU.lock().unwrap_or_else(PoisonError::into_inner)));
    }
    eprintln!("skipped: libtorch sees no GPU ({} devices)", Cuda::device_count());
    None
}

pub(crate) fn two_tasks() -> Vec<TaskSpec> {
    let named = |task: &str, name: &str| TaskSpec { name: name.to_owned(), ..tasks::builtin(task).unwrap() };
    vec![named("mnli", "nli"), named("stsb", "sim")]
}

pub(crate) fn tiny_bert(tasks: Vec<TaskSpec>, precision: Precision) -> Model {
    tiny_bert_on(Device::Cpu, tasks, precision)
}

fn tiny_bert_on(device: Device, tasks: Vec<TaskSpec>, precision: Precision) -> Model {
    let encoder = fixtures().join("tiny-bert");
    let regression_output = RegressionOutput::Linear;
    let heads = Vec::new();
    let new = NewModel { encoder: &encoder, heads, layers: None, tasks, regression_output, precision, seed: 1 };
    new.open(device).unwrap()
}

/// The dumped tensors, by name.
pub(crate) struct Reference {
    pub(crate) tensors: BTreeMap<String, Tensor>,
}

impl Reference {
    pub(crate) fn read() -> Self {
        let tensors = Tensor::read_safetensors(fixtures().join("tiny-bert-reference.safetensors")).unwrap();
        Self { tensors: tensors.into_iter().collect() }
    }

    pub(crate) fn get(&self, name: &str) -> &Tensor {
        self.tensors.get(name).unwrap_or_else(|| panic!("the reference has no `{name}`"))
    }

    /// The batch's rows without their padding.
    pub(crate) fn rows(&self) -> TokenRows {
        let (ids, types, mask) = (self.get("input_ids"), self.get("token_type_ids"), self.get("attention_mask"));
        let mut rows = TokenRows::default();
        for row in 0..ids.size()[0] {
            let length = mask.get(row).sum(Kind::Int64).int64_value(&[]);
            let of = |tensor: &Tensor| -> Vec<u32> {
                (0..length).map(|place| tensor.int64_value(&[row, place]) as u32).collect()
            };
            rows.push(row, false, None, &of(ids), &of(types), 0);
        }
        rows
    }

    /// The tiny BERT with the reference's heads and without dropout.
    pub(crate) fn model(&self, precision: Precision) -> Model {
        self.model_on(Device::Cpu, precision)
    }

    pub(crate) fn model_on(&self, device: Device, precision: Precision) -> Model {
        let mut model = tiny_bert_on(device, two_tasks(), precision);
        model.config.hidden_dropout_prob = 0.0;
        model.config.attention_probs_dropout_prob = 0.0;
        for parameter in model.parameters.iter_mut().filter(|parameter| parameter.name.starts_with("heads.")) {
            tch::no_grad(|| parameter.tensor.copy_(self.get(&parameter.name)));
        }
        refresh(model.leaves.iter());
        model
    }

    pub(crate) fn assert_near(&self, name: &str, computed: &Tensor, tolerance: f64) {
        let difference = (computed.detach().to_device(Device::Cpu) - self.get(name)).abs().max().double_value(&[]);
        assert!(difference <= tolerance, "`{name}` differs by {difference:e}");
    }
}
