//! A tiny random BERT, exported and run, against what `PyTorch` computed (`tests/fixtures/make_tiny_bert.py`).

use std::fs;
use std::path::{Path, PathBuf};

use bam_contract::artifact::FINGERPRINT;
use bam_contract::artifact::checkpoint::{ModelInfo, head_prefix};
use bam_contract::artifact::encoder::{CONFIG, TOKENIZER_FILES, WEIGHTS};
use bam_contract::artifact::onnx::{CHECKPOINT, GRAPH, INPUTS, TASKS};
use bam_contract::digest::{Digest, Fingerprint};
use bam_contract::fault::hint_of;
use bam_contract::job::{Job, JobInput};
use bam_contract::stage::{ExportParams, RegressionOutput, StageRef, StageSpec};
use bam_contract::task::TaskSpec;
use prost::Message;
use safetensors::tensor::TensorView;
use safetensors::{SafeTensors, serialize_to_file};
use tempfile::TempDir;

use super::proto::{FLOAT, ModelProto, TensorProto};
use crate::report::Reporter;
use bam_inference::padding::Padded;
use bam_inference::session::OnnxSession;

const TOLERANCE: f32 = 1e-5;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures")
}

fn reference() -> Vec<u8> {
    fs::read(fixtures().join("tiny-bert-reference.safetensors")).unwrap()
}

fn floats(tensors: &SafeTensors<'_>, name: &str) -> Vec<f32> {
    let data = tensors.tensor(name).unwrap().data();
    data.chunks_exact(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap())).collect()
}

/// The reference's inputs, as they were padded there.
fn inputs(tensors: &SafeTensors<'_>) -> Padded {
    let integers = |name: &str| -> Vec<i64> {
        let data = tensors.tensor(name).unwrap().data();
        data.chunks_exact(8).map(|bytes| i64::from_le_bytes(bytes.try_into().unwrap())).collect()
    };
    let shape = tensors.tensor("input_ids").unwrap().shape().to_vec();
    Padded {
        rows: shape[0],
        length: shape[1],
        input_ids: integers("input_ids"),
        token_type_ids: integers("token_type_ids"),
        attention_mask: integers("attention_mask"),
    }
}

/// One row of them, without its padding.
fn row_of(padded: &Padded, row: usize) -> Padded {
    let places = row * padded.length..(row + 1) * padded.length;
    let length = padded.attention_mask[places.clone()].iter().sum::<i64>() as usize;
    let part = |values: &[i64]| values[places.start..places.start + length].to_vec();
    Padded {
        rows: 1,
        length,
        input_ids: part(&padded.input_ids),
        token_type_ids: part(&padded.token_type_ids),
        attention_mask: part(&padded.attention_mask),
    }
}

fn nli_and_sim() -> Vec<TaskSpec> {
    let task = |json: &str| serde_json::from_str(json).unwrap();
    vec![
        task(
            r#"{"name": "nli", "files": {"train": "nli.tsv"}, "columns": {"text": "a", "pair": "b", "label": "label"},
                "labels": ["entailment", "neutral", "contradiction"], "metrics": ["accuracy"]}"#,
        ),
        task(
            r#"{"name": "sim", "files": {"train": "sim.tsv"}, "columns": {"text": "a", "pair": "b", "label": "score"},
                "range": [0, 5], "metrics": ["pearson"]}"#,
        ),
    ]
}

/// A stage `export` of the tiny BERT with the reference's heads.
struct Export {
    folder: TempDir,
    info: ModelInfo,
}

impl Export {
    fn of(tasks: Vec<TaskSpec>, regression_output: RegressionOutput) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let info = ModelInfo { fingerprint: Fingerprint::of("checkpoint"), tasks, regression_output, max_tokens: 64 };
        let export = Self { folder, info };
        fs::create_dir(export.model()).unwrap();
        fs::create_dir(export.output()).unwrap();
        export.info.write(&export.model()).unwrap();
        for name in TOKENIZER_FILES.into_iter().chain([CONFIG]) {
            let from = fixtures().join("tiny-bert").join(name);
            if from.is_file() {
                fs::copy(from, export.model().join(name)).unwrap();
            }
        }
        export.write_weights(|_| true);
        export
    }

    fn model(&self) -> PathBuf {
        self.folder.path().join("model")
    }

    fn output(&self) -> PathBuf {
        self.folder.path().join("output")
    }

    /// Writes the checkpoint's tensors, those that are to be kept.
    fn write_weights(&self, keep: impl Fn(&str) -> bool) {
        let (encoder, reference) = (fs::read(fixtures().join("tiny-bert").join(WEIGHTS)).unwrap(), reference());
        let (encoder, reference) =
            (SafeTensors::deserialize(&encoder).unwrap(), SafeTensors::deserialize(&reference).unwrap());
        let mut tensors: Vec<(String, TensorView<'_>)> =
            encoder.iter().map(|(name, tensor)| (format!("bert.{name}"), tensor)).collect();
        for task in &self.info.tasks {
            for part in ["weight", "bias"] {
                let tensor = reference.tensor(&format!("heads.{}.{part}", task.name)).unwrap();
                tensors.push((format!("{}.{part}", head_prefix(&self.info.tasks, task)), tensor));
            }
        }
        tensors.retain(|(name, _)| keep(name));
        serialize_to_file(tensors, None, &self.model().join(WEIGHTS)).unwrap();
    }

    fn set_config(&self, name: &str, value: &str) {
        let path = self.model().join(CONFIG);
        let mut config: serde_json::Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        config[name] = serde_json::from_str(value).unwrap();
        fs::write(path, config.to_string()).unwrap();
    }

    fn run(&self) -> anyhow::Result<String> {
        let params = ExportParams { model: StageRef("student".to_owned()) };
        let job = Job {
            stage: "onnx".to_owned(),
            fingerprint: Fingerprint::of("export"),
            spec: StageSpec::Export(params.clone()),
            inputs: vec![JobInput {
                slot: "model".to_owned(),
                stage: "student".to_owned(),
                path: self.model(),
                digest: Digest::of(b""),
            }],
            output: self.output(),
            resume: PathBuf::new(),
            threads: 1,
            device: "cpu".to_owned(),
        };
        Ok(crate::export::run(&params, &job, &Reporter::default())?.summary)
    }

    fn session(&self) -> OnnxSession {
        OnnxSession::open(&self.output(), 1).unwrap()
    }

    fn proto(&self) -> ModelProto {
        ModelProto::decode(fs::read(self.output().join(GRAPH)).unwrap().as_slice()).unwrap()
    }
}

#[track_caller]
fn assert_close(actual: &[f32], expected: &[f32]) {
    assert_eq!(actual.len(), expected.len());
    for (actual, expected) in actual.iter().zip(expected) {
        assert!((actual - expected).abs() < TOLERANCE, "{actual} is not {expected}");
    }
}

#[test]
fn logits_are_those_of_pytorch() {
    let export = Export::of(nli_and_sim(), RegressionOutput::Linear);
    assert_eq!(export.run().unwrap(), "2 heads, 0.2 MB");
    let (reference, mut session) = (reference(), export.session());
    let reference = SafeTensors::deserialize(&reference).unwrap();
    for task in ["nli", "sim"] {
        let logits = session.run(&inputs(&reference), task).unwrap();
        assert_close(&logits, &floats(&reference, &format!("logits.{task}")));
    }
}

#[test]
fn a_row_alone_has_the_logits_that_it_has_beside_longer_ones() {
    let export = Export::of(nli_and_sim(), RegressionOutput::Linear);
    export.run().unwrap();
    let (reference, mut session) = (reference(), export.session());
    let reference = SafeTensors::deserialize(&reference).unwrap();
    let padded = inputs(&reference);
    let expected = floats(&reference, "logits.nli");
    for row in 0..padded.rows {
        let logits = session.run(&row_of(&padded, row), "nli").unwrap();
        assert_close(&logits, &expected[row * 3..(row + 1) * 3]);
    }
}

#[test]
fn a_single_head_may_end_in_a_sigmoid() {
    let export = Export::of(nli_and_sim().split_off(1), RegressionOutput::Sigmoid);
    assert_eq!(export.run().unwrap(), "1 head, 0.2 MB");
    let (reference, mut session) = (reference(), export.session());
    let reference = SafeTensors::deserialize(&reference).unwrap();
    let expected: Vec<f32> = floats(&reference, "logits.sim").iter().map(|x| 1.0 / (1.0 + (-x).exp())).collect();
    assert_close(&session.run(&inputs(&reference), "sim").unwrap(), &expected);
}

#[test]
fn every_activation_runs() {
    let reference = reference();
    let padded = inputs(&SafeTensors::deserialize(&reference).unwrap());
    for activation in ["gelu_new", "gelu_pytorch_tanh", "relu", "tanh"] {
        let export = Export::of(nli_and_sim(), RegressionOutput::Linear);
        export.set_config("hidden_act", &format!("{activation:?}"));
        export.run().unwrap();
        let logits = export.session().run(&padded, "nli").unwrap();
        assert!(logits.iter().all(|logit| logit.is_finite()), "{activation}");
    }
}

#[test]
fn the_artifact_says_what_it_is() {
    let export = Export::of(nli_and_sim(), RegressionOutput::Linear);
    export.run().unwrap();
    let properties = export.proto().metadata_props;
    let property = |key: &str| properties.iter().find(|entry| entry.key == key).unwrap().value.clone();
    assert_eq!(property(FINGERPRINT), Fingerprint::of("export").to_string());
    assert_eq!(property(CHECKPOINT), Digest::of(b"").to_string());
    assert_eq!(serde_json::from_str::<Vec<TaskSpec>>(&property(TASKS)).unwrap(), nli_and_sim());
    let expected = ModelInfo { fingerprint: Fingerprint::of("export"), ..export.info.clone() };
    assert_eq!(ModelInfo::read(&export.output()).unwrap(), expected);
    for name in ["tokenizer.json", "vocab.txt", "tokenizer_config.json", CONFIG] {
        assert_eq!(fs::read(export.output().join(name)).unwrap(), fs::read(export.model().join(name)).unwrap());
    }
}

#[test]
fn the_file_is_the_message_that_it_was_written_from() {
    let export = Export::of(nli_and_sim(), RegressionOutput::Linear);
    export.run().unwrap();
    let (bytes, graph) = (fs::read(export.output().join(GRAPH)).unwrap(), export.proto().graph.unwrap());
    export.run().unwrap();
    assert_eq!(bytes, fs::read(export.output().join(GRAPH)).unwrap());
    assert_eq!(export.proto().encoded_len(), bytes.len());
    assert_eq!(graph.input.iter().map(|input| input.name.as_str()).collect::<Vec<_>>(), INPUTS);
    let reference = reference();
    let reference = SafeTensors::deserialize(&reference).unwrap();
    let head = graph.initializer.iter().find(|tensor| tensor.name == "heads.nli.weight").unwrap();
    let expected = TensorProto {
        dims: vec![3, 32],
        data_type: FLOAT,
        name: "heads.nli.weight".to_owned(),
        raw_data: reference.tensor("heads.nli.weight").unwrap().data().to_vec(),
    };
    assert_eq!(*head, expected);
    let stored = fs::read(export.model().join(WEIGHTS)).unwrap();
    for name in SafeTensors::deserialize(&stored).unwrap().names() {
        assert_eq!(graph.initializer.iter().filter(|tensor| tensor.name == name).count(), 1, "{name}");
    }
}

#[test]
fn an_unknown_activation_is_named() {
    let export = Export::of(nli_and_sim(), RegressionOutput::Linear);
    export.set_config("hidden_act", "\"silu\"");
    let error = export.run().unwrap_err();
    assert_eq!(error.to_string(), "the encoder's activation `silu` has no ONNX form here");
    assert_eq!(
        hint_of(&error),
        Some("`hidden_act` in config.json can be gelu, gelu_new, gelu_pytorch_tanh, relu or tanh")
    );
}

#[test]
fn a_missing_tensor_is_named() {
    let export = Export::of(nli_and_sim(), RegressionOutput::Linear);
    export.write_weights(|name| name != "heads.sim.bias");
    assert_eq!(export.run().unwrap_err().to_string(), "the checkpoint has no tensor `heads.sim.bias`");
}

#[test]
fn a_tensor_of_another_shape_is_named() {
    let export = Export::of(nli_and_sim(), RegressionOutput::Linear);
    export.set_config("intermediate_size", "48");
    assert_eq!(
        export.run().unwrap_err().to_string(),
        "tensor `bert.encoder.layer.0.intermediate.dense.weight` is F32 of shape [64, 32], \
         where float32 of shape [48, 32] is needed"
    );
}

#[test]
fn a_zero_survives_in_an_attribute() {
    let attribute = super::graph::int("axis", 0);
    let back = super::proto::AttributeProto::decode(attribute.encode_to_vec().as_slice()).unwrap();
    assert_eq!(back.i, Some(0));
}
