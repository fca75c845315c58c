//! For tests: a tiny random BERT with heads, as a checkpoint that can be exported, and what `PyTorch` computed of it
//! (`tests/fixtures/make_tiny_bert.py`).

use std::fs;
use std::path::{Path, PathBuf};

use bam_contract::artifact::checkpoint::{ModelInfo, head_prefix};
use bam_contract::artifact::encoder::{CONFIG, TOKENIZER_FILES, WEIGHTS};
use bam_contract::artifact::onnx::GRAPH;
use bam_contract::digest::{Digest, Fingerprint};
use bam_contract::job::{Job, JobInput};
use bam_contract::stage::{ExportParams, GraphPrecision, RegressionOutput, StageRef, StageSpec};
use bam_contract::task::TaskSpec;
use bam_inference::padding::Padded;
use bam_inference::session::OnnxSession;
use prost::Message;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors, serialize_to_file};
use tempfile::TempDir;

use super::proto::ModelProto;
use crate::report::Reporter;

pub(crate) fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures")
}

pub(crate) fn reference() -> Vec<u8> {
    fs::read(fixtures().join("tiny-bert-reference.safetensors")).unwrap()
}

pub(crate) fn floats(tensors: &SafeTensors<'_>, name: &str) -> Vec<f32> {
    let data = tensors.tensor(name).unwrap().data();
    data.chunks_exact(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap())).collect()
}

/// The reference's inputs, as they were padded there.
pub(crate) fn inputs(tensors: &SafeTensors<'_>) -> Padded {
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
pub(crate) fn row_of(padded: &Padded, row: usize) -> Padded {
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

pub(crate) fn nli_and_sim() -> Vec<TaskSpec> {
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
pub(crate) struct Export {
    folder: TempDir,
    pub(crate) info: ModelInfo,
}

impl Export {
    pub(crate) fn of(tasks: Vec<TaskSpec>, regression_output: RegressionOutput) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let info = ModelInfo {
            fingerprint: Fingerprint::of("checkpoint"),
            tasks,
            regression_output,
            max_tokens: 64,
            precision: None,
            tokenizer: None,
        };
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

    pub(crate) fn model(&self) -> PathBuf {
        self.folder.path().join("model")
    }

    pub(crate) fn output(&self) -> PathBuf {
        self.folder.path().join("output")
    }

    /// Writes the checkpoint's tensors, those that are to be kept.
    pub(crate) fn write_weights(&self, keep: impl Fn(&str) -> bool) {
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

    /// Changes tensors of the checkpoint whose names end so, given as their values and the length of a row.
    pub(crate) fn change_weights(&self, ending: &str, change: impl Fn(&mut [f32], usize)) {
        let path = self.model().join(WEIGHTS);
        let stored = fs::read(&path).unwrap();
        let stored = SafeTensors::deserialize(&stored).unwrap();
        let of = |(name, tensor): (&str, TensorView<'_>)| {
            let mut values = floats(&stored, name);
            if name.ends_with(ending) {
                change(&mut values, tensor.shape().last().copied().unwrap_or(1));
            }
            let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            (name.to_owned(), tensor.shape().to_vec(), bytes)
        };
        let changed: Vec<_> = stored.iter().map(of).collect();
        let views = changed
            .iter()
            .map(|(name, shape, bytes)| (name, TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap()));
        serialize_to_file(views, None, &path).unwrap();
    }

    pub(crate) fn set_config(&self, name: &str, value: &str) {
        let path = self.model().join(CONFIG);
        let mut config: serde_json::Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        config[name] = serde_json::from_str(value).unwrap();
        fs::write(path, config.to_string()).unwrap();
    }

    pub(crate) fn run(&self) -> anyhow::Result<String> {
        self.run_as(GraphPrecision::Fp32)
    }

    pub(crate) fn run_as(&self, precision: GraphPrecision) -> anyhow::Result<String> {
        let params = ExportParams { model: StageRef("student".to_owned()), precision };
        let job = Job {
            stage: "onnx".to_owned(),
            pipeline: PathBuf::new(),
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

    pub(crate) fn session(&self) -> OnnxSession {
        OnnxSession::open(&self.output(), 1).unwrap()
    }

    pub(crate) fn proto(&self) -> ModelProto {
        ModelProto::decode(fs::read(self.output().join(GRAPH)).unwrap().as_slice()).unwrap()
    }
}
