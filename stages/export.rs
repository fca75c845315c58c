//! `export`: writes a checkpoint as one ONNX graph, a shared encoder with all heads.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::{Context, Result};
use bam_contract::artifact::FINGERPRINT;
use bam_contract::artifact::checkpoint::ModelInfo;
use bam_contract::artifact::encoder::{CONFIG, TOKENIZER_FILES, WEIGHTS};
use bam_contract::artifact::onnx::{CHECKPOINT, GRAPH, TASKS};
use bam_contract::job::Job;
use bam_contract::stage::ExportParams;
use memmap2::Mmap;
use safetensors::SafeTensors;

use crate::encoder::BertConfig;
use crate::onnx::bert;
use crate::report::{Outcome, Reporter};

/// Writes `model.onnx`, the tokenizer's files, `config.json` and `bam.json`.
pub(crate) fn run(_params: &ExportParams, job: &Job, reporter: &Reporter) -> Result<Outcome> {
    let model = &job.input("model")?.path;
    let info = ModelInfo::read(model)?;
    reporter.progress(0, 1, "graph", "");
    write_graph(model, &info, job)?;
    for name in TOKENIZER_FILES.into_iter().chain([CONFIG]).filter(|name| model.join(name).is_file()) {
        fs::copy(model.join(name), job.output.join(name)).with_context(|| format!("copying `{name}`"))?;
    }
    let bytes = fs::metadata(job.output.join(GRAPH))?.len();
    let heads = info.tasks.len();
    ModelInfo { fingerprint: job.fingerprint, ..info }.write(&job.output)?;
    reporter.progress(1, 1, "graph", "");
    Ok(Outcome::from(format!("{heads} head{}, {:.1} MB", if heads == 1 { "" } else { "s" }, bytes as f64 / 1e6)))
}

fn write_graph(model: &Path, info: &ModelInfo, job: &Job) -> Result<()> {
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
    ];
    let graph = bert::graph(&config, info, &checkpoint)?;
    let path = job.output.join(GRAPH);
    let mut file = BufWriter::new(File::create(&path).with_context(|| format!("creating `{}`", path.display()))?);
    graph.write(&metadata, &mut file)?;
    file.flush().with_context(|| format!("writing `{}`", path.display()))
}
