//! The network against `PyTorch`'s own numbers, dumped by `tests/fixtures/make_tiny_bert.py`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use bam_contract::artifact::tokens::TokenRows;
use bam_contract::digest::Fingerprint;
use bam_contract::stage::{Precision, RegressionOutput};
use bam_contract::task::TaskSpec;
use bam_contract::tasks;
use tch::{Device, Kind, Tensor};

use crate::padding::Padded;

use super::{Batch, Mode, Model, NewModel, Parameter, safetensors_file};

fn fixtures() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures"))
}

fn two_tasks() -> Vec<TaskSpec> {
    let named = |task: &str, name: &str| TaskSpec { name: name.to_owned(), ..tasks::builtin(task).unwrap() };
    vec![named("mnli", "nli"), named("stsb", "sim")]
}

fn tiny_bert(tasks: Vec<TaskSpec>) -> Model {
    let encoder = fixtures().join("tiny-bert");
    let regression_output = RegressionOutput::Linear;
    NewModel { encoder: &encoder, layers: None, tasks, regression_output, seed: 1 }.open(Device::Cpu).unwrap()
}

fn batch(rows: &[(&TokenRows, usize)]) -> Batch {
    Batch::new(&Padded::new(rows, 0), Device::Cpu)
}

struct Reference {
    tensors: BTreeMap<String, Tensor>,
}

impl Reference {
    fn read() -> Self {
        let tensors = Tensor::read_safetensors(fixtures().join("tiny-bert-reference.safetensors")).unwrap();
        Self { tensors: tensors.into_iter().collect() }
    }

    fn get(&self, name: &str) -> &Tensor {
        self.tensors.get(name).unwrap_or_else(|| panic!("the reference has no `{name}`"))
    }

    /// The batch's rows without their padding.
    fn rows(&self) -> TokenRows {
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
    fn model(&self) -> Model {
        let mut model = tiny_bert(two_tasks());
        model.config.hidden_dropout_prob = 0.0;
        model.config.attention_probs_dropout_prob = 0.0;
        for parameter in model.parameters.iter_mut().filter(|parameter| parameter.name.starts_with("heads.")) {
            tch::no_grad(|| parameter.tensor.copy_(self.get(&parameter.name)));
        }
        model
    }

    fn assert_near(&self, name: &str, computed: &Tensor, tolerance: f64) {
        let difference = (computed.detach() - self.get(name)).abs().max().double_value(&[]);
        assert!(difference <= tolerance, "`{name}` differs by {difference:e}");
    }
}

#[test]
fn logits_equal_pytorchs_with_and_without_fused_attention() {
    let reference = Reference::read();
    let (model, rows) = (reference.model(), reference.rows());
    let all: Vec<_> = (0..rows.len()).map(|row| (&rows, row)).collect();
    for train in [false, true] {
        let mode = Mode { train, precision: Precision::Fp32 };
        let pooled = model.pooled_bd(&batch(&all), mode);
        reference.assert_near("pooled", &pooled, 1e-5);
        reference.assert_near("logits.nli", &model.logits_bc(0, &pooled, mode), 1e-5);
        reference.assert_near("logits.sim", &model.logits_bc(1, &pooled, mode), 1e-5);
    }
}

#[test]
fn loss_and_every_gradient_equal_pytorchs() {
    let reference = Reference::read();
    let (model, rows) = (reference.model(), reference.rows());
    let mode = Mode { train: true, precision: Precision::Fp32 };
    let count = rows.len() as f64;
    let mut total = 0.0;
    // Two passes of other lengths than the reference's one: gradients add up.
    for pass in [0..2, 2..rows.len()] {
        let part: Vec<_> = pass.clone().map(|row| (&rows, row)).collect();
        let of_pass = |name: &str| reference.get(name).narrow(0, pass.start as i64, pass.len() as i64);
        let pooled = model.pooled_bd(&batch(&part), mode);
        let class_loss = model.logits_bc(0, &pooled, mode).cross_entropy_loss::<Tensor>(
            &of_pass("labels_classes"),
            None,
            tch::Reduction::Sum,
            -100,
            0.0,
        );
        let value_loss = (model.logits_bc(1, &pooled, mode).squeeze_dim(1) - of_pass("labels_values")).square();
        let loss = (class_loss + value_loss.sum(Kind::Float)) / count;
        loss.backward();
        total += loss.double_value(&[]);
    }
    assert!((total - reference.get("loss").double_value(&[])).abs() < 1e-6);
    for Parameter { name, tensor } in &model.parameters {
        let gradient = tensor.grad();
        assert!(gradient.defined(), "`{name}` has no gradient");
        reference.assert_near(&format!("grad.{name}"), &gradient, 1e-5);
    }
    let gradients = reference.tensors.keys().filter(|name| name.starts_with("grad.")).count();
    assert_eq!(gradients, model.parameters.len(), "every gradient of the reference is compared");
}

#[test]
fn a_row_answers_alone_as_it_does_in_a_batch() {
    let reference = Reference::read();
    let (model, rows) = (reference.model(), reference.rows());
    let mode = Mode::eval(Precision::Fp32);
    for row in 0..rows.len() {
        let alone = model.pooled_bd(&batch(&[(&rows, row)]), mode);
        let difference = (alone.squeeze_dim(0) - reference.get("pooled").get(row as i64)).abs().max().double_value(&[]);
        assert!(difference < 1e-5, "row {row} differs by {difference:e}");
    }
}

#[test]
fn bf16_is_near_fp32() {
    let reference = Reference::read();
    let (model, rows) = (reference.model(), reference.rows());
    let all: Vec<_> = (0..rows.len()).map(|row| (&rows, row)).collect();
    for train in [false, true] {
        let mode = Mode { train, precision: Precision::Bf16 };
        reference.assert_near("pooled", &model.pooled_bd(&batch(&all), mode), 0.1);
    }
}

#[test]
fn the_first_layers_are_kept() {
    let encoder = fixtures().join("tiny-bert");
    let new = |layers| NewModel {
        encoder: &encoder,
        layers: Some(layers),
        tasks: two_tasks(),
        regression_output: RegressionOutput::Linear,
        seed: 1,
    };
    let model = new(2).open(Device::Cpu).unwrap();
    assert!(model.parameters.iter().all(|parameter| !parameter.name.contains("layer.2.")));
    assert_eq!(model.config.written["num_hidden_layers"], 2);
    let error = new(9).open(Device::Cpu).unwrap_err();
    assert_eq!(error.to_string(), "`layers: 9`, but the encoder has 3");
}

#[test]
fn equal_weights_give_equal_bytes_that_the_library_reads() {
    let folder = tempfile::tempdir().unwrap();
    let model = tiny_bert(two_tasks());
    let path = |name: &str| folder.path().join(name);
    for name in ["one", "two"] {
        safetensors_file::write(&path(name), &model.parameters, Fingerprint::of("key")).unwrap();
    }
    assert_eq!(std::fs::read(path("one")).unwrap(), std::fs::read(path("two")).unwrap());
    let read: BTreeMap<_, _> = Tensor::read_safetensors(path("one")).unwrap().into_iter().collect();
    assert_eq!(read.len(), model.parameters.len());
    for Parameter { name, tensor } in &model.parameters {
        assert_eq!(read[name], tensor.detach(), "`{name}`");
    }
}
