//! The arguments of `init` and `graph`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::PipelineArgs;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  bam init                              the default pipeline, in this folder
  bam init --task urgency --data tickets.csv
                                        one for a file's rows, told from them
  bam init --task urgency --data tickets.csv --text subject --label urgency

The file may be TSV, CSV, JSONL or Parquet, plain or gzipped. A pipeline.yaml that is there already stays as it is.")]
pub(crate) struct InitArgs {
    /// Folder to write it into
    #[arg(value_name = "DIR", default_value = ".", hide_default_value = true)]
    pub(crate) folder: PathBuf,

    #[command(flatten)]
    pub(crate) task: Option<TaskArgs>,

    /// Folder of the encoder to start from [default: the one that `make setup` brings]
    #[arg(long, value_name = "DIR")]
    pub(crate) encoder: Option<PathBuf>,
}

/// A task of the user's own.
#[derive(Debug, Args)]
pub(crate) struct TaskArgs {
    /// Name of your task
    #[arg(long = "task", value_name = "NAME", required = false, requires = "data")]
    pub(crate) name: String,

    /// File of its rows
    #[arg(long, value_name = "FILE", required = false, requires = "name")]
    pub(crate) data: PathBuf,

    /// Column of the text: its name, or its number from 1 in a CSV or TSV file
    #[arg(long, value_name = "COLUMN", requires = "data")]
    pub(crate) text: Option<String>,

    /// Column of the second text, where rows are pairs
    #[arg(long, value_name = "COLUMN", requires = "data")]
    pub(crate) pair: Option<String>,

    /// Column of the label: a class, or a value
    #[arg(long, value_name = "COLUMN", requires = "data")]
    pub(crate) label: Option<String>,

    /// The first row of a CSV or TSV file holds no names
    #[arg(long, requires = "data")]
    pub(crate) no_header: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  bam graph --folded                    one box per line of the file
  bam graph --format svg > pipeline.svg
  bam graph --format dot | dot -Tpdf > pipeline.pdf")]
pub(crate) struct GraphArgs {
    #[command(flatten)]
    pub(crate) source: PipelineArgs,

    /// Language of the drawing
    #[arg(long, value_enum, default_value_t = GraphFormat::Mermaid)]
    pub(crate) format: GraphFormat,

    /// Draw one box per stage as written, and not one per stage that it stands for
    #[arg(long)]
    pub(crate) folded: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum GraphFormat {
    Mermaid,
    Dot,
    Svg,
    Json,
}
