//! `export`: writes a checkpoint as one ONNX graph, a shared encoder with all heads.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use bam_contract::artifact::FINGERPRINT;
use bam_contract::artifact::checkpoint::ModelInfo;
use bam_contract::artifact::encoder::{CONFIG, TOKENIZER_CONFIG, TOKENIZER_FILES, WEIGHTS, tokenizer_digest};
use bam_contract::artifact::onnx::{CHECKPOINT, GRAPH, PRECISION, Probe, Probes, TASKS};
use bam_contract::fault::Fault;
use bam_contract::job::Job;
use bam_contract::stage::{ExportParams, GraphPrecision, Precision};
use bam_contract::task::TaskSpec;
use bam_inference::model::{OnnxModel, Texts, encode};
use bam_inference::word_pieces::WordPieces;
use memmap2::Mmap;
use safetensors::SafeTensors;
use serde_json::{Map, Value};
use tch::Device;

use crate::crew::Crew;
use crate::encoder::{BertConfig, Model};
use crate::infer;
use crate::onnx::bert;
use crate::report::{Outcome, Reporter};

/// Texts of the probes: one text and two, some with words that few vocabularies have whole, and one that is cut.
const PROBED: [(&str, Option<&str>); 3] = [
    ("The ferry leaves at noon, weather permitting.", None),
    ("Nobody had watered the ficus since May.", Some("The plant was watered in June.")),
    ("Crème brûlée, 3.50 € – naïve pricing?", Some("")),
];
/// How often the text is repeated that is longer than any model takes.
const REPEATED: usize = 600;

/// How far a model's answers to its probes may ever be from the checkpoint's. Between two correct runtimes of fp32 there
/// are a few millionths; a wrong tokenizer, graph or kernel is off by far more.
const TOLERANCE: f32 = 1e-3;
/// The same for other precisions, in what they differ by when they are exported: another processor rounds elsewhere, and
/// is then off by as much again.
const TOLERANCE_BEYOND_EXPORT: f32 = 4.0;

/// Writes `model.onnx`, the tokenizer's files, `config.json`, `bam.json` and `probes.json`.
pub(crate) fn run(params: &ExportParams, job: &Job, reporter: &Reporter) -> Result<Outcome> {
    let model = &job.input("model")?.path;
    let info = ModelInfo::read(model)?;
    reporter.progress(0, 1, "graph", "");
    write_graph(model, &info, params.precision, job)?;
    for name in TOKENIZER_FILES.into_iter().chain([CONFIG]).filter(|name| model.join(name).is_file()) {
        fs::copy(model.join(name), job.output.join(name)).with_context(|| format!("copying `{name}`"))?;
    }
    set_limit(&job.output, info.max_tokens)?;
    let bytes = fs::metadata(job.output.join(GRAPH))?.len();
    let heads = info.tasks.len();
    let tokenizer = Some(tokenizer_digest(model)?);
    let info = ModelInfo { fingerprint: job.fingerprint, precision: Some(params.precision), tokenizer, ..info };
    info.write(&job.output)?;
    let rows = probes(model, &info)?;
    Probes { tolerance: tolerance(&rows, params.precision, job)?, rows }.write(&job.output)?;
    reporter.progress(1, 1, "graph", "");
    let heads = format!("{heads} head{}", if heads == 1 { "" } else { "s" });
    Ok(Outcome::from(format!("{heads}, {}, {:.1} MB", params.precision, bytes as f64 / 1e6)))
}

/// Has the tokenizer's settings say how many tokens the model takes, for programs that don't read `bam.json`.
fn set_limit(folder: &Path, max_tokens: usize) -> Result<()> {
    let path = folder.join(TOKENIZER_CONFIG);
    let mut settings: Map<String, Value> = if path.is_file() {
        let text = fs::read(&path).with_context(|| format!("reading `{}`", path.display()))?;
        let broken =
            || Fault::new(format!("`{TOKENIZER_CONFIG}` is no JSON object"), "repair it in the encoder's folder");
        serde_json::from_slice(&text).with_context(broken)?
    } else {
        Map::new()
    };
    settings.insert("model_max_length".to_owned(), max_tokens.into());
    // A new file: a copy may be as read-only as what it was copied from.
    if path.is_file() {
        fs::remove_file(&path).with_context(|| format!("writing `{}`", path.display()))?;
    }
    fs::write(&path, serde_json::to_string_pretty(&settings)? + "\n")
        .with_context(|| format!("writing `{}`", path.display()))
}

/// Asks the exported model its probes, and tells how far it may be from the checkpoint when it is asked again.
fn tolerance(probes: &[Probe], precision: GraphPrecision, job: &Job) -> Result<f32> {
    let model = OnnxModel::open(&job.output)?;
    let difference = model.greatest_difference(&mut model.session(job.threads)?, probes)?;
    let sound = difference.is_finite() && (precision != GraphPrecision::Fp32 || difference <= TOLERANCE);
    ensure!(
        sound,
        Fault::new(
            format!("the exported graph's answers differ from its checkpoint's by {difference:.1e}"),
            "are the checkpoint's weights finite, and is ONNX Runtime the one that `make setup` brings?"
        )
    );
    Ok(TOLERANCE.max(if precision == GraphPrecision::Fp32 { 0.0 } else { TOLERANCE_BEYOND_EXPORT * difference }))
}

fn write_graph(model: &Path, info: &ModelInfo, precision: GraphPrecision, job: &Job) -> Result<()> {
    let config = BertConfig::read(model)?;
    let weights = model.join(WEIGHTS);
    let weights_file = File::open(&weights).with_context(|| format!("opening `{}`", weights.display()))?;
    // SAFETY: the file belongs to an artifact, which nothing changes once it is committed.
    let mapped = unsafe { Mmap::map(&weights_file) }.with_context(|| format!("mapping `{}`", weights.display()))?;
    let checkpoint = SafeTensors::deserialize(&mapped)
        .with_context(|| format!("`{}` is not a safetensors file", weights.display()))?;

    let metadata = [
        (FINGERPRINT, job.fingerprint.to_string()),
        // By content, not by fingerprint: a checkpoint made again with the same bytes gives the same graph.
        (CHECKPOINT, job.input("model")?.digest.to_string()),
        (TASKS, serde_json::to_string(&info.tasks)?),
        (PRECISION, precision.to_string()),
    ];
    let graph = bert::graph(&config, info, precision, &checkpoint)?;
    let path = job.output.join(GRAPH);
    let mut file = BufWriter::new(File::create(&path).with_context(|| format!("creating `{}`", path.display()))?);
    graph.write(&metadata, &mut file)?;
    file.flush().with_context(|| format!("writing `{}`", path.display()))
}

/// What the checkpoint itself answers.
fn probes(folder: &Path, info: &ModelInfo) -> Result<Vec<Probe>> {
    let (model, _) = Model::open(folder, Precision::Fp32, Device::Cpu)?;
    let word_pieces = WordPieces::open(folder)?;
    let long = "on and ".repeat(REPEATED);
    let texts: Vec<_> =
        PROBED.into_iter().chain([(long.as_str(), None)]).map(|(text, pair)| Texts { text, pair }).collect();
    let rows = encode(&word_pieces, &texts, info.max_tokens)?;
    let answers: Vec<_> = (0..info.tasks.len())
        .map(|head| infer::logits(&model, head, &rows, word_pieces.pad_id, &Crew::alone(), |_| {}))
        .collect();
    let probe = |(row, texts): (usize, &Texts<'_>)| {
        let of_task = |(task, logits): (&TaskSpec, &Vec<f32>)| {
            (task.name.clone(), logits[row * task.outputs()..(row + 1) * task.outputs()].to_vec())
        };
        Probe {
            text: texts.text.to_owned(),
            pair: texts.pair.map(ToOwned::to_owned),
            input_ids: rows.input_ids(row).to_vec(),
            logits: info.tasks.iter().zip(&answers).map(of_task).collect(),
        }
    };
    Ok(texts.iter().enumerate().map(probe).collect())
}
