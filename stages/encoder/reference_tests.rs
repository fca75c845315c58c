//! The network against `PyTorch`'s own numbers, dumped by `tests/fixtures/make_tiny_bert.py`.

use std::collections::BTreeMap;
use std::path::Path;

use bam_contract::artifact::checkpoint::ModelInfo;
use bam_contract::artifact::tokens::TokenRows;
use bam_contract::digest::Fingerprint;
use bam_contract::stage::{Layers, Precision, RegressionOutput};
use bam_contract::task::TaskSpec;
use tch::{Device, Tensor};

use super::reference::{Reference, fixtures, gpu, tiny_bert, two_tasks};
use super::{Batch, CheckpointFiles, Dropout, Model, NewModel, Parameter, safetensors_file, write_checkpoint};

fn batch(model: &Model, rows: &[(&TokenRows, usize)]) -> Batch {
    // Two groups where there are rows for them.
    let ends = [(rows.len() - 1).max(1), rows.len()];
    Batch::new(rows, &ends[usize::from(rows.len() == 1)..], 0, i64::from, model.placement())
}

fn pooled(model: &Model, rows: &[(&TokenRows, usize)], dropout: &Dropout) -> Tensor {
    model.pooled_bd(&batch(model, rows), &model.words_vd, dropout)
}

/// As in prediction, with fused attention, and as in training; the reference's probabilities of dropping are 0.
fn both_ways() -> [Dropout; 2] {
    [Dropout::off(), Dropout::seeded(1, Device::Cpu)]
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

/// In fp32 rows are padded there too, in bf16 they attend end to end.
#[test]
fn a_gpu_answers_as_the_cpu_does() {
    let Some((gpu, _guard)) = gpu() else { return };
    let reference = Reference::read();
    let rows = reference.rows();
    let all: Vec<_> = (0..rows.len()).map(|row| (&rows, row)).collect();
    for (precision, tolerance) in [(Precision::Fp32, 1e-4), (Precision::Bf16, 0.1)] {
        let model = reference.model_on(gpu, precision);
        assert_eq!(model.placement().is_end_to_end, precision == Precision::Bf16);
        for dropout in [Dropout::off(), Dropout::seeded(1, gpu)] {
            reference.assert_near("pooled", &pooled(&model, &all, &dropout), tolerance);
        }
        let alone = pooled(&model, &all[..1], &Dropout::off()).to_device(Device::Cpu);
        let difference = (alone - reference.get("pooled").narrow(0, 0, 1)).abs().max().double_value(&[]);
        assert!(difference < tolerance, "{precision:?}: a row alone differs by {difference:e}");
    }
}

/// What a layer drops is dropped again from a mark on, as computing it again needs; by kernels that drop by themselves too.
#[test]
fn a_gpu_drops_the_same_again_from_a_mark_on() {
    let Some((gpu, _guard)) = gpu() else { return };
    let reference = Reference::read();
    let rows = reference.rows();
    let all: Vec<_> = (0..rows.len()).map(|row| (&rows, row)).collect();
    let mut model = reference.model_on(gpu, Precision::Bf16);
    model.config.hidden_dropout_prob = 0.3;
    model.config.attention_probs_dropout_prob = 0.3;
    let dropout = Dropout::seeded(1, gpu);
    let mark = dropout.mark();
    let first = pooled(&model, &all, &dropout);
    let next = pooled(&model, &all, &dropout);
    dropout.rewind(mark);
    let again = pooled(&model, &all, &dropout);
    let differ = |one: &Tensor, other: &Tensor| (one - other).abs().max().double_value(&[]);
    assert!(differ(&first, &again) < 1e-6 && differ(&first, &next) > 1e-3);
}

#[test]
fn the_layers_asked_for_are_kept() {
    let encoder = fixtures().join("tiny-bert");
    let new = |layers: Option<&Layers>| {
        let new = NewModel {
            encoder: &encoder,
            heads: Vec::new(),
            layers,
            tasks: two_tasks(),
            regression_output: RegressionOutput::Linear,
            precision: Precision::Fp32,
            seed: 1,
        };
        new.open(Device::Cpu)
    };
    let whole = named(&new(None).unwrap());
    for (layers, sources) in [(Layers::First(2), [0, 1]), (Layers::These(vec![0, 2]), [0, 2])] {
        let model = new(Some(&layers)).unwrap();
        assert_eq!(model.config.written["num_hidden_layers"], 2);
        let kept = named(&model);
        assert!(kept.keys().all(|name| !name.contains("layer.2.")));
        for (place, source) in sources.into_iter().enumerate() {
            let at = |layer: usize| format!("bert.encoder.layer.{layer}.output.dense.weight");
            assert_eq!(kept[&at(place)], whole[&at(source)], "{layers:?}, layer {place}");
        }
    }
    let error = new(Some(&Layers::First(9))).unwrap_err();
    assert_eq!(error.to_string(), "`layers`: the first 9 are asked for, but there are 3");
}

/// A model of both tasks, then one of the second of them alone and one of both, each started from the one before.
#[test]
fn heads_are_kept_under_the_names_that_the_new_model_gives_them() {
    let folder = tempfile::tempdir().unwrap();
    let encoder = fixtures().join("tiny-bert");
    let saved = |model: &Model, name: &str| {
        let path = folder.path().join(name);
        std::fs::create_dir(&path).unwrap();
        let (tasks, regression_output) = (model.tasks.clone(), model.regression_output);
        let info = ModelInfo {
            fingerprint: Fingerprint::of("key"),
            tasks,
            regression_output,
            max_tokens: 8,
            precision: None,
            tokenizer: None,
        };
        write_checkpoint(&CheckpointFiles { folder: &path, tokenizer: &encoder }, model, &info).unwrap();
        path
    };
    let started = |encoder: &Path, heads: Vec<TaskSpec>, tasks: Vec<TaskSpec>| {
        let (regression_output, precision) = (RegressionOutput::Linear, Precision::Fp32);
        let new = NewModel { encoder, heads, layers: None, tasks, regression_output, precision, seed: 2 };
        new.open(Device::Cpu).unwrap()
    };
    let both = tiny_bert(two_tasks(), Precision::Fp32);
    let path = saved(&both, "both");
    let one = started(&path, two_tasks(), two_tasks()[1..].to_vec());
    assert_eq!(named(&one)["classifier.weight"], named(&both)["heads.sim.weight"]);
    let again = named(&started(&saved(&one, "one"), one.tasks.clone(), two_tasks()));
    assert_eq!(again["heads.sim.weight"], named(&both)["heads.sim.weight"]);
    assert_ne!(again["heads.nli.weight"], named(&both)["heads.nli.weight"]);

    let fresh = named(&started(&path, Vec::new(), two_tasks()));
    assert_ne!(fresh["heads.sim.weight"], named(&both)["heads.sim.weight"]);
    assert_eq!(fresh["bert.pooler.dense.weight"], named(&both)["bert.pooler.dense.weight"]);
}

fn named(model: &Model) -> BTreeMap<String, Tensor> {
    model.parameters.iter().map(|parameter| (parameter.name.clone(), parameter.tensor.copy())).collect()
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
