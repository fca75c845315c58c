//! The worker: one stage, from a job file to an artifact's files. It reports on standard output, one
//! JSON event a line, and writes nowhere but into the job's output folder.

mod data;
mod report;
mod text;
mod tokenize;

use std::process::ExitCode;

use bam_contract::job::Job;
use bam_contract::stage::StageSpec;

fn main() -> ExitCode {
    let path = std::env::args_os().nth(1).expect("a job file");
    let reporter = report::Reporter::default();
    let outcome = Job::read(path.as_ref()).and_then(|job| match &job.spec {
        StageSpec::Data(params) => data::run(params, &job, &reporter),
        StageSpec::Tokenize(params) => tokenize::run(params, &job, &reporter),
        _ => anyhow::bail!("not yet"),
    });
    match outcome {
        Ok(outcome) => {
            reporter.done(outcome);
            ExitCode::SUCCESS
        }
        Err(error) => {
            reporter.failed(&error);
            ExitCode::FAILURE
        }
    }
}
