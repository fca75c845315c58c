//! The worker: one stage, from a job file to an artifact.

mod export;
mod onnx;
mod report;

use std::path::Path;

use anyhow::{Context, Result, bail};
use bam_contract::job::Job;
use bam_contract::stage::StageSpec;

fn main() -> Result<()> {
    let path = std::env::args_os().nth(1).context("usage: bam-stage JOB.json")?;
    let job = Job::read(Path::new(&path))?;
    match &job.spec {
        StageSpec::Export(params) => println!("{}", export::run(params, &job, &report::Reporter)?.summary),
        _ => bail!("only `export` is here"),
    }
    Ok(())
}
