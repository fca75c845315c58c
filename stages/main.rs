//! The worker: one stage, from a job file to an artifact's files. It reports on standard output, one
//! JSON event a line, and writes nowhere but into the job's output folder.

mod alike;
mod compare;
mod crew;
mod data;
mod encoder;
mod ensemble;
mod export;
mod infer;
mod libtorch;
mod onnx;
mod predict;
mod report;
mod score;
mod stop;
mod submit;
mod text;
mod tokenize;
mod train;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Result, anyhow, bail};
use bam_contract::job::Job;
use bam_contract::stage::StageSpec;

use crate::report::{Outcome, Reporter};
use crate::stop::Stopped;

/// A training step frees and takes again the same tensors of megabytes. glibc's allocator either gives each back to the
/// system, and has its pages cleared anew, or searches long lists for them; each cost a fifth of the time and more.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Freed memory is kept for the next step.
#[unsafe(export_name = "malloc_conf")]
static ALLOCATOR_SETTINGS: Option<&'static std::ffi::c_char> = {
    const TEXT: &std::ffi::CStr = c"dirty_decay_ms:60000,muzzy_decay_ms:0,oversize_threshold:0";
    // SAFETY: a text with its end, which lives as long as the program.
    unsafe { TEXT.as_ptr().as_ref() }
};

/// The stages, in data order.
fn compute(job: &Job, reporter: &Reporter) -> Result<Outcome> {
    match &job.spec {
        StageSpec::Data(params) => data::run(params, job, reporter),
        StageSpec::Tokenize(params) => tokenize::run(params, job, reporter),
        StageSpec::Train(params) => train::run(params, job, reporter),
        StageSpec::Predict(params) => predict::run(params, job, reporter),
        StageSpec::Ensemble(params) => ensemble::run(params, job, reporter),
        StageSpec::Export(params) => export::run(params, job, reporter),
        StageSpec::Score(params) => score::run(params, job, reporter),
        StageSpec::Exec(_) => bail!("an `exec` stage is computed by the program that it names"),
        StageSpec::Compare(params) => compare::run(params, job, reporter),
        StageSpec::Submit(params) => submit::run(params, job, reporter),
    }
}

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let [job] = arguments.as_slice() else {
        eprintln!("bam-stage {}: computes one stage for `bam`\nusage: bam-stage JOB.json", env!("CARGO_PKG_VERSION"));
        return ExitCode::from(2);
    };
    let reporter = Reporter::default();
    // libtorch's errors arrive as panics; a person should read them as errors.
    let outcome = catch_unwind(AssertUnwindSafe(|| run(Path::new(job), &reporter)));
    match outcome.unwrap_or_else(|panic| Err(anyhow!("{}", panic_text(panic.as_ref())))) {
        Ok(outcome) => {
            reporter.done(outcome);
            ExitCode::SUCCESS
        }
        Err(error) => {
            match error.downcast_ref::<Stopped>() {
                Some(Stopped(summary)) => reporter.stopped(summary),
                None => reporter.failed(&error),
            }
            ExitCode::FAILURE
        }
    }
}

fn run(path: &Path, reporter: &Reporter) -> Result<Outcome> {
    let job = Job::read(path)?;
    tch::set_num_threads(job.threads as i32);
    rayon::ThreadPoolBuilder::new().num_threads(job.threads).build_global()?;
    compute(&job, reporter)
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("the stage panicked").to_owned()
}
