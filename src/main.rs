//! `bam` runs pipelines of stages, and only those that something changed for.
//!
//! A pipeline file becomes a sound [`pipeline`]; [`plan`] decides about each stage, by its key ([`fingerprint`]) and
//! what the [`store`] and a [`remote`] hold; [`run`] has an [`executor`] start workers and commits what they make; [`ui`] tells of it.

mod cli; // the command line
mod commands; // one file per command
mod executor; // where workers run
mod exported; // the model that runs have exported last
mod fingerprint; // keys of stages, digests of files
mod hub; // data and encoders from the Hugging Face hub
mod installed; // what lies beside an installed bam
mod k8s; // stages as Kubernetes Jobs
mod machine; // cores, memory, GPUs
mod mutex; // locks that outlive a panic
mod pipeline; // pipeline.yaml: read, expanded, checked
mod plan; // cached, run or wait
mod predict; // rows of a file through an exported model
mod profile; // where stages run when it is not here
mod reason; // why a stage runs: old → new
mod remote; // artifacts shared with others
mod report; // what there is to tell of a pipeline, as a page
mod run; // the loop
mod serve; // an exported model over HTTP
mod span;
mod store; // artifacts/
mod ui; // all that is printed

use std::process::ExitCode;

use clap::Parser;

/// Exit code of a mistake in usage, pipeline file or environment.
const UNUSABLE: u8 = 2;

fn main() -> ExitCode {
    if std::env::args_os().nth(1).is_some_and(|first| first == executor::GUARDIAN) {
        executor::guard();
        return ExitCode::SUCCESS;
    }
    if std::env::args_os().nth(1).is_some_and(|first| first == executor::ATTENDANT) {
        return executor::attend(std::env::args_os().skip(2));
    }
    let cli = cli::Cli::parse();
    ui::respect_no_color();
    match commands::dispatch(cli).and_then(|code| ui::all_written().map(|()| code)) {
        Ok(code) => code,
        Err(error) => {
            ui::error::tell(&error);
            ExitCode::from(UNUSABLE)
        }
    }
}
