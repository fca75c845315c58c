//! The command line.

mod authoring;
mod exporting;
mod serving;
mod storing;

use std::path::PathBuf;

use bytesize::ByteSize;
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::pipeline::DEFAULT_FILE;
use crate::profile::OnInterrupt;
pub(crate) use authoring::{GraphArgs, GraphFormat, InitArgs, TaskArgs};
pub(crate) use exporting::{Export, K8sArgs};
pub(crate) use serving::{InputFormat, OutputFormat, PredictArgs, ServeArgs};
pub(crate) use storing::{GcArgs, PullArgs, PushArgs, VerifyArgs};

/// Run pipelines that turn text data sets into one small multi-task model, and rerun only what changed.
#[derive(Debug, Parser)]
#[command(
    version,
    propagate_version = true,
    max_term_width = 110,
    after_help = "\
Examples:
  bam run                               run pipeline.yaml
  bam plan                              what would run, and why
  bam run --set vars.max_tokens=96      the same with another value
  bam show student                      what a stage made, and from what

Exit codes: 0 done, 1 a stage failed, 2 usage, pipeline file or environment, 130 interrupted."
)]
pub(crate) struct Cli {
    /// Change to this folder first; paths in a pipeline file are relative to it
    #[arg(short = 'C', long, global = true, value_name = "DIR")]
    pub(crate) directory: Option<PathBuf>,

    /// Folder of what was made
    #[arg(long, global = true, value_name = "DIR", env = "BAM_ARTIFACTS", default_value = "artifacts")]
    pub(crate) artifacts: PathBuf,

    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a pipeline: every stage that something changed for
    Run(RunArgs),
    /// Say what a run would do, why, and how long that took before
    Plan(PlanArgs),
    /// Bring artifacts to the remote store
    Push(PushArgs),
    /// Fetch artifacts from the remote store
    Pull(PullArgs),
    /// Say how things stand: what is current, stale or failed, and what it takes on the disk
    Status(StatusArgs),
    /// Explain an artifact: how it was made, from what, its files and first rows; or compare two
    Show(ShowArgs),
    /// Print what a stage's worker said: of the one under way, else of the last one
    Log(LogArgs),
    /// List the runs there were: what ran, how long it took, and what was saved
    Runs(RunsArgs),
    /// Write a page on a pipeline or a run: scores, curves, confusion, calibration, cost, provenance
    Report(ReportArgs),
    /// Read all bytes of artifacts and hold them against what was committed
    Verify(VerifyArgs),
    /// Remove artifacts that the pipelines named don't need
    Gc(GcArgs),
    /// Answer texts in a file with an exported model
    Predict(PredictArgs),
    /// Answer texts over HTTP with an exported model
    Serve(ServeArgs),
    /// Write a pipeline.yaml to start from: the default one, or one for a file of your own
    Init(InitArgs),
    /// Draw a pipeline: its stages, how they stand, and which reads which
    Graph(GraphArgs),
    /// Write the stages that would run as Kubernetes Jobs, for `kubectl`; untested on a live cluster
    Export {
        #[command(subcommand)]
        to: Export,
    },
    /// Print a JSON Schema of pipeline files, for editors, or a page of their parameters
    #[command(after_help = SCHEMA_HELP)]
    Schema {
        /// Of profiles, which `bam run --profile` takes
        #[arg(long)]
        profile: bool,
        /// All parameters as a page to read, in Markdown
        #[arg(long, conflicts_with = "profile")]
        markdown: bool,
    },
    /// Print a script that completes commands and options in a shell
    #[command(after_help = COMPLETIONS_HELP)]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

const SCHEMA_HELP: &str = "\
Examples:
  bam schema > pipeline.schema.json
  bam schema --profile > profile.schema.json
  bam schema --markdown > parameters.md

A first line `# yaml-language-server: $schema=pipeline.schema.json` in a pipeline file has editors check it as it is written.";

const COMPLETIONS_HELP: &str = "\
Examples:
  bam completions bash > ~/.local/share/bash-completion/completions/bam
  bam completions fish > ~/.config/fish/completions/bam.fish";

#[derive(Debug, Args)]
pub(crate) struct PipelineArgs {
    /// The pipeline file
    #[arg(default_value = DEFAULT_FILE)]
    pub(crate) pipeline: PathBuf,

    /// Override an entry of the pipeline file; the value is YAML. May be given again
    ///
    /// Examples: `--set vars.encoder=../bert-base`, `--set seed=3`, `--set 'for.task=[rte, mrpc]'`,
    /// `--set stages.student.train.epochs=2`.
    #[arg(long = "set", value_name = "PATH=VALUE")]
    pub(crate) overrides: Vec<String>,

    #[command(flatten)]
    pub(crate) remote: RemoteArgs,
}

#[derive(Debug, Args)]
pub(crate) struct RemoteArgs {
    /// Where artifacts are shared: `s3://bucket/prefix`, another URL, or a folder [default: the file's `remote:`]
    #[arg(long, value_name = "URL", env = "BAM_REMOTE")]
    pub(crate) remote: Option<String>,
}

/// Whether the remote and the hub may be asked.
#[derive(Debug, Args)]
pub(crate) struct OfflineArgs {
    /// Do without the remote and the Hugging Face hub: ask nothing of them, bring nothing there
    #[arg(long, visible_alias = "no-remote")]
    pub(crate) offline: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  bam run pipelines/glue-small.yaml --set vars.glue=/data/glue
  bam run pipeline.yaml student         only `student` and what it needs
  bam run pipeline.yaml tokens          all stages `tokens@…`
  bam run pipeline.yaml tokens --downstream
                                        and all that is made from them
  bam run --force=student               that stage again, though nothing changed
  bam run -n                            what would run, and why
  bam run --profile cluster.yaml        the same stages as jobs of a cluster

The story goes to stderr, the tables of scores and comparisons to stdout. Ctrl-C stops the run: what is done stays \
cached, and a training keeps the state that it goes on from; a second Ctrl-C ends it at once.")]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) source: PipelineArgs,

    #[command(flatten)]
    pub(crate) choice: ChoiceArgs,

    #[command(flatten)]
    pub(crate) limits: LimitArgs,

    #[command(flatten)]
    pub(crate) elsewhere: ElsewhereArgs,

    /// Say what would run, and why, and run nothing (as `bam plan` does)
    #[arg(long, short = 'n')]
    pub(crate) dry_run: bool,

    #[command(flatten)]
    pub(crate) failure: FailureArgs,

    #[command(flatten)]
    pub(crate) offline: OfflineArgs,

    /// Tell what happens as JSON, one object a line, on stdout
    ///
    /// Each has `event`: started, cached, remote, fetching, fetched, waiting, running, adopted, queued, requeued, left,
    /// progress, metric, warning, ran, failed, skipped, pushed, trouble, downloading, awaiting, downloaded, abandoned, stopping, stopped, interrupted,
    /// finished, scores, comparison.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Where stages run, when not here.
#[derive(Debug, Args)]
pub(crate) struct ElsewhereArgs {
    /// Run the stages as this profile says, on a cluster: docs/cluster.md
    #[arg(long, value_name = "FILE", env = "BAM_PROFILE")]
    pub(crate) profile: Option<PathBuf>,

    /// What Ctrl-C does to jobs of a cluster [default: the profile's `on_interrupt`; else a terminal is asked, or cancel]
    #[arg(long, value_enum, requires = "profile")]
    pub(crate) on_interrupt: Option<OnInterrupt>,
}

/// What a failure does to the other stages.
#[derive(Debug, Args)]
pub(crate) struct FailureArgs {
    /// Stop at the first stage that fails
    #[arg(long, conflicts_with = "keep_going")]
    pub(crate) fail_fast: bool,

    /// After a failure, run all stages that don't need the one that failed (the default)
    #[arg(long)]
    pub(crate) keep_going: bool,
}

/// Which stages, of those in the pipeline file.
#[derive(Debug, Args)]
pub(crate) struct ChoiceArgs {
    /// Only these stages (or families of stages) and what they need
    #[arg(value_name = "STAGE")]
    pub(crate) targets: Vec<String>,

    /// The stages made from them too
    #[arg(long, requires = "targets")]
    pub(crate) downstream: bool,

    /// Run a stage (or a family) though nothing changed; without a name, the stages asked for. May be given again
    #[arg(long, value_name = "STAGE", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    pub(crate) force: Vec<String>,
}

/// What stages may use, all together.
#[derive(Debug, Args)]
pub(crate) struct LimitArgs {
    /// CPU threads [default: all cores]
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub(crate) threads: Option<usize>,

    /// Memory, such as `8GiB` [default: what is available]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub(crate) memory: Option<ByteSize>,

    /// Most stages at a time [default: as many as the threads allow]
    #[arg(short, long, value_name = "N", env = "BAM_JOBS", value_parser = at_least_one)]
    pub(crate) jobs: Option<usize>,

    /// Where tensors live: `auto` (a GPU if there is one), `cpu`, `cuda`, `cuda:0` …
    #[arg(long, default_value = "auto", value_parser = device)]
    pub(crate) device: String,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  bam plan
  bam plan --set vars.max_tokens=96     what that change would cost
  bam plan --why teacher@rte            the causes, back to where they begin")]
pub(crate) struct PlanArgs {
    #[command(flatten)]
    pub(crate) source: PipelineArgs,

    #[command(flatten)]
    pub(crate) choice: ChoiceArgs,

    #[command(flatten)]
    pub(crate) limits: LimitArgs,

    #[command(flatten)]
    pub(crate) offline: OfflineArgs,

    /// Show the tree of causes of one stage
    #[arg(long, value_name = "STAGE", conflicts_with_all = ["json", "targets"])]
    pub(crate) why: Option<String>,

    /// Print one JSON object per stage
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    pub(crate) source: PipelineArgs,

    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  bam show student                      the newest artifact of a stage
  bam show 4f2a91c0                     one by the start of its fingerprint
  bam show artifacts/latest/tokens@rte  one by its folder, or a file in it
  bam show teacher@rte teacher@mrpc     what differs in how two were made")]
pub(crate) struct ShowArgs {
    /// A stage, the start of a fingerprint (4 digits or more), or a path
    #[arg(value_name = "ARTIFACT")]
    pub(crate) artifact: String,

    /// Another artifact to compare it with
    #[arg(value_name = "OTHER")]
    pub(crate) other: Option<String>,

    /// Rows of each table to print
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub(crate) rows: usize,

    /// Print the manifest (or the differences) as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct LogArgs {
    /// The stage
    #[arg(value_name = "STAGE")]
    pub(crate) stage: String,

    /// Go on printing while the stage runs
    #[arg(short, long)]
    pub(crate) follow: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  bam runs                              the last twenty
  bam runs 2026-11-25T10                stages of the last that started then")]
pub(crate) struct RunsArgs {
    /// When the run started, or the beginning of that
    #[arg(value_name = "TIME")]
    pub(crate) run: Option<String>,

    /// List so many
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub(crate) last: usize,

    /// Print one JSON object per run
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  bam report                            pipeline.yaml now, as report.html
  bam report 2026-11-25T10              the last run that started then
  bam report -o scores.csv              the scores alone
  bam report --format markdown -o -     on standard output
  bam report --tensorboard curves       and a folder of curves for it

It reads artifacts and runs no model, and says which line of the pipeline file would give it more to tell.")]
pub(crate) struct ReportArgs {
    /// A pipeline file, or when a run started (or the beginning of that)
    #[arg(value_name = "PIPELINE|RUN", default_value = DEFAULT_FILE)]
    pub(crate) of: PathBuf,

    /// Where to write it, in the format of its ending; `-` is standard output [default: report.html, report.md, …]
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,

    /// As one HTML page, as Markdown, the scores as CSV, or all of it as JSON, whatever the ending [default: html]
    #[arg(long, value_enum)]
    pub(crate) format: Option<ReportFormat>,

    /// Show no rows of the data
    #[arg(long)]
    pub(crate) no_examples: bool,

    /// Write the curves of each training as event files for `tensorboard` too
    #[arg(long, value_name = "DIR")]
    pub(crate) tensorboard: Option<PathBuf>,

    /// Override an entry of the pipeline file, as `bam run --set` does. May be given again
    #[arg(long = "set", value_name = "PATH=VALUE")]
    pub(crate) overrides: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ReportFormat {
    Html,
    Markdown,
    Csv,
    Json,
}

fn at_least_one(text: &str) -> Result<usize, String> {
    let number = text.parse::<u32>().ok().filter(|number| *number > 0);
    number.map(|number| number as usize).ok_or_else(|| format!("give a whole number from 1 to {}", u32::MAX))
}

fn size(text: &str) -> Result<ByteSize, String> {
    text.parse().map_err(|_| "give a size, such as `8GiB` or `500MB`".to_owned())
}

fn device(text: &str) -> Result<String, String> {
    let number = |rest: &str| rest.parse::<u8>().is_ok();
    let known = matches!(text, "auto" | "cpu" | "cuda") || text.strip_prefix("cuda:").is_some_and(number);
    if known { Ok(text.to_owned()) } else { Err("give `auto`, `cpu`, `cuda`, or `cuda:` and a number".to_owned()) }
}
