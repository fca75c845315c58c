//! The arguments of what looks after the store: `push`, `pull`, `verify` and `gc`.

use std::path::PathBuf;

use bytesize::ByteSize;
use clap::Args;

use super::{PipelineArgs, RemoteArgs, size};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  bam push                              all that the stages of pipeline.yaml have now
  bam push pipeline.yaml student        what `student` has, and what it needs
  bam push --remote s3://bucket/prefix

What the remote has already is left as it is. Exit code 1 if anything could not be brought there.")]
pub(crate) struct PushArgs {
    #[command(flatten)]
    pub(crate) source: PipelineArgs,

    /// Only these stages (or families of stages) and what they need
    #[arg(value_name = "STAGE")]
    pub(crate) targets: Vec<String>,

    /// Print one JSON object per artifact
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  bam pull                              all that the remote has of pipeline.yaml
  bam pull pipeline.yaml student        only what `student` has
  bam pull pipeline.yaml teacher        what the stages `teacher@…` have

Nothing is run. Exit code 1 if the remote lacks any of it, or it could not be fetched.")]
pub(crate) struct PullArgs {
    #[command(flatten)]
    pub(crate) source: PipelineArgs,

    /// Only these stages (or families of stages)
    #[arg(value_name = "STAGE")]
    pub(crate) targets: Vec<String>,

    /// Print one JSON object per artifact
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  bam verify                            everything in the store
  bam verify teacher@rte onnx           the artifacts of two stages

Exit code 1 if anything is damaged. Nothing is changed: the next `bam run` that needs it makes it again.")]
pub(crate) struct VerifyArgs {
    /// Stages, starts of fingerprints, or paths [default: all artifacts]
    #[arg(value_name = "ARTIFACT")]
    pub(crate) named: Vec<String>,

    /// Print one JSON object per artifact
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  bam gc --dry-run                      what pipeline.yaml doesn't need, nor others had last
  bam gc --older-than 30d               of that, what is unread for 30 days
  bam gc --keep 20GiB a.yaml b.yaml     what neither needs, until 20 GiB are left

What the stages of the pipelines named have now, or had last, is never removed, nor what a running stage makes or reads. What \
other pipelines of this store had last stays too, as long as their files are there, unless `--all` is given. Given both \
`--keep` and `--older-than`, what either asks for goes.")]
pub(crate) struct GcArgs {
    /// The pipelines whose artifacts stay [default: pipeline.yaml]
    #[arg(value_name = "PIPELINE")]
    pub(crate) pipelines: Vec<PathBuf>,

    /// Remove what pipelines that aren't named had last too
    #[arg(long)]
    pub(crate) all: bool,

    /// Remove until the store is this small, the longest unused first
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub(crate) keep: Option<ByteSize>,

    /// Remove what was not used for this long, such as `30d` or `12h`; logs, run records, unfinished states and damaged artifacts too
    #[arg(long, value_name = "TIME", value_parser = age)]
    pub(crate) older_than: Option<humantime::Duration>,

    /// Say what would be removed, and remove nothing
    #[arg(long, short = 'n')]
    pub(crate) dry_run: bool,

    #[command(flatten)]
    pub(crate) remote: RemoteArgs,

    /// Override an entry of the pipeline files, as `bam run --set` does. May be given again
    #[arg(long = "set", value_name = "PATH=VALUE")]
    pub(crate) overrides: Vec<String>,

    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

fn age(text: &str) -> Result<humantime::Duration, String> {
    text.parse().map_err(|_| "give a length of time, such as `30d` or `12h`".to_owned())
}
