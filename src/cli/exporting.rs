//! The arguments of `export`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{OfflineArgs, PipelineArgs};

#[derive(Debug, Subcommand)]
pub(crate) enum Export {
    /// As Kubernetes Jobs: manifests to apply, checked against the API's schema and not tried on a live cluster
    K8s(Box<K8sArgs>),
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  bam export k8s --image registry.example/bam:1 --claim bert
  bam export k8s --image … --claim … pipeline.yaml student
                                        only `student` and what it needs
  bam export k8s --image … --claim … --profile cluster.yaml
                                        with that profile's limits
  bam export k8s --image … --claim … -o - > jobs.yaml

UNTESTED ON A LIVE CLUSTER: the manifests hold by the API's schema, and no more is known.

Each stage that would run now becomes one Job, which runs `bam run PIPELINE STAGE` in the folder of the project; so keys, cache \
and locks are those of a run here. Jobs do not wait for each other: they come in waves, one file each, and a wave is applied \
once the one before it is complete. What `kubectl` is to be told is printed at the end. docs/cluster.md has more.")]
pub(crate) struct K8sArgs {
    #[command(flatten)]
    pub(crate) source: PipelineArgs,

    /// Only these stages (or families of stages) and what they need
    #[arg(value_name = "STAGE")]
    pub(crate) targets: Vec<String>,

    /// Image of the containers, with `bam` on its path
    #[arg(long, value_name = "IMAGE", value_parser = image)]
    pub(crate) image: String,

    /// Claim of a volume that many nodes may write (`ReadWriteMany`), which holds the folder that `bam` runs in, its store included
    #[arg(long, value_name = "PVC", value_parser = subdomain)]
    pub(crate) claim: String,

    /// Where that folder lies in the volume [default: at its top]
    #[arg(long, value_name = "DIR", value_parser = sub_path)]
    pub(crate) sub_path: Option<String>,

    /// Where containers find that folder
    #[arg(long, value_name = "DIR", default_value = "/project", value_parser = mount_path)]
    pub(crate) mount_path: String,

    /// Namespace of the Jobs [default: the one `kubectl` is told]
    #[arg(long, value_name = "NAME", value_parser = label)]
    pub(crate) namespace: Option<String>,

    /// Take limits by stage kind, environment and grace from this profile: docs/cluster.md
    #[arg(long, value_name = "FILE", env = "BAM_PROFILE")]
    pub(crate) profile: Option<PathBuf>,

    /// Start so many more pods where one was killed or came to its time limit
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub(crate) retries: u16,

    /// Jobs for all stages, cached ones too
    #[arg(long)]
    pub(crate) all: bool,

    /// Folder for the files `wave-01.yaml` …, which are exchanged; `-` is standard output
    #[arg(short, long, value_name = "DIR", default_value = "k8s")]
    pub(crate) output: PathBuf,

    #[command(flatten)]
    pub(crate) offline: OfflineArgs,
}

fn image(text: &str) -> Result<String, String> {
    let is_plain = !text.is_empty() && text.chars().all(|c| c.is_ascii_graphic());
    if is_plain { Ok(text.to_owned()) } else { Err("give an image, such as `registry.example/bam:1`".to_owned()) }
}

fn is_label(text: &str) -> bool {
    let is_inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    (1..=63).contains(&text.len())
        && text.starts_with(is_inner)
        && text.ends_with(is_inner)
        && text.chars().all(|c| c == '-' || is_inner(c))
}

fn label(text: &str) -> Result<String, String> {
    let hint = "give at most 63 small letters, digits and `-` between them";
    if is_label(text) { Ok(text.to_owned()) } else { Err(hint.to_owned()) }
}

fn subdomain(text: &str) -> Result<String, String> {
    let hint = "give small letters and digits, with `-` and `.` between them";
    if text.len() <= 253 && text.split('.').all(is_label) { Ok(text.to_owned()) } else { Err(hint.to_owned()) }
}

fn mount_path(text: &str) -> Result<String, String> {
    let is_path = text.starts_with('/') && !text.contains(':');
    if is_path { Ok(text.to_owned()) } else { Err("give a path from `/`, without `:`".to_owned()) }
}

fn sub_path(text: &str) -> Result<String, String> {
    let is_path = !text.is_empty() && !text.starts_with('/') && text.split('/').all(|part| part != "..");
    if is_path { Ok(text.to_owned()) } else { Err("give a path within the volume".to_owned()) }
}
