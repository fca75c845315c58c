//! The network against `PyTorch`'s own numbers, dumped by `tests/fixtures/make_tiny_bert.py`.

use std::collections::BTreeMap;

use bam_contract::artifact::tokens::TokenRows;
use bam_contract::digest::Fingerprint;
use bam_contract::stage::{Precision, RegressionOutput};
use tch::{Device, Tensor};

use super::reference::{Reference, fixtures, tiny_bert, two_tasks};
use super::{Batch, Dropout, Model, NewModel, Parameter, safetensors_file};
use bam_inference::padding::Padded;

fn batch(rows: &[(&TokenRows, usize)]) -> Batch {
    Batch::new(&Padded::new(rows, 0), Device::Cpu)
}

fn pooled(model: &Model, rows: &[(&TokenRows, usize)], dropout: &Dropout) -> Tensor {
    model.pooled_bd(&batch(rows), &model.words_vd, dropout)
}

/// As in prediction, with fused attention, and as in training; the reference's probabilities of dropping are 0.
fn both_ways() -> [Dropout; 2] {
    [Dropout::off(), Dropout::seeded(1)]
}

#[test]
fn logits_equal_pytorchs_with_and_without_fused_attention() {
    let reference = Reference::read();
    let (model, rows) = (reference.model(Precision::Fp32), reference.rows());
    let all: Vec<_> = (0..rows.len()).map(|row| (&rows, row)).collect();
    for dropout in both_ways() {
        let pooled = pooled(&model, &all, &dropout);
        reference.assert_near("pooled", &pooled, 1e-5);
        reference.assert_near("logits.nli", &model.logits_bc(0, &pooled, &dropout), 1e-5);
        reference.assert_near("logits.sim", &model.logits_bc(1, &pooled, &dropout), 1e-5);
    }
}

#[test]
fn a_row_answers_alone_as_it_does_in_a_batch() {
    let reference = Reference::read();
    let (model, rows) = (reference.model(Precision::Fp32), reference.rows());
    for row in 0..rows.len() {
        let alone = pooled(&model, &[(&rows, row)], &Dropout::off());
        let difference = (alone.squeeze_dim(0) - reference.get("pooled").get(row as i64)).abs().max().double_value(&[]);
        assert!(difference < 1e-5, "row {row} differs by {difference:e}");
    }
}

#[test]
fn bf16_is_near_fp32() {
    let reference = Reference::read();
    let (model, rows) = (reference.model(Precision::Bf16), reference.rows());
    let all: Vec<_> = (0..rows.len()).map(|row| (&rows, row)).collect();
    for dropout in both_ways() {
        reference.assert_near("pooled", &pooled(&model, &all, &dropout), 0.1);
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
        precision: Precision::Fp32,
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
    let model = tiny_bert(two_tasks(), Precision::Fp32);
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
