//! One stage as a Job, by the API's own types.

use std::collections::BTreeMap;
use std::time::Duration;

use bam_contract::digest::Digest;
use k8s_openapi::api::batch::v1::{
    Job, JobSpec, PodFailurePolicy, PodFailurePolicyOnExitCodesRequirement, PodFailurePolicyOnPodConditionsPattern,
    PodFailurePolicyRule,
};
use k8s_openapi::api::core::v1::{
    Container, EnvVar, PersistentVolumeClaimVolumeSource, PodSpec, PodTemplateSpec, ResourceRequirements, Volume,
    VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::names::{legal, name};

/// The container, and the volume of the claim.
const BAM: &str = "bam";
const PROJECT: &str = "project";

/// What all Jobs of a pipeline have in common.
#[derive(Debug)]
pub(crate) struct Frame<'a> {
    pub(crate) image: &'a str,
    pub(crate) namespace: Option<&'a str>,
    /// The claim of the volume that holds the folder of the project, where that lies in the volume, and where the container finds it.
    pub(crate) claim: &'a str,
    pub(crate) sub_path: Option<&'a str>,
    pub(crate) mount_path: &'a str,
    /// The pipeline's name, and its file from that folder.
    pub(crate) pipeline: &'a str,
    pub(crate) file: &'a str,
    /// Options of `bam run`.
    pub(crate) options: Vec<String>,
    pub(crate) environment: BTreeMap<String, String>,
    /// How long what is told to end may take, where nothing is said of its kind.
    pub(crate) grace: Duration,
    pub(crate) retries: u16,
}

/// What the Job of one stage is to do.
#[derive(Debug)]
pub(crate) struct Work<'a> {
    pub(crate) stage: &'a str,
    pub(crate) wave: &'a str,
    /// What it computes, as far as that is known.
    pub(crate) computation: Digest,
    /// Options of `bam run` for this stage.
    pub(crate) options: Vec<String>,
    pub(crate) cpus: usize,
    /// If something is known of it.
    pub(crate) memory_bytes: Option<u64>,
    pub(crate) gpus: usize,
    pub(crate) time: Option<Duration>,
    /// How long before that it is asked to keep its state, if it is.
    pub(crate) grace: Option<Duration>,
}

pub(crate) fn job(frame: &Frame<'_>, work: &Work<'_>) -> Job {
    let labels = map([
        ("app.kubernetes.io/name", BAM.to_owned()),
        ("bam/pipeline", legal(frame.pipeline)),
        ("bam/stage", legal(work.stage)),
    ]);
    let annotations = map([("bam/stage", work.stage.to_owned())]);
    let spec = spec(frame, work, labels.clone(), annotations.clone());
    let identity = serde_json::to_vec(&(work.computation, &spec)).expect("a Job is plain data");
    Job {
        metadata: ObjectMeta {
            name: Some(name(work.stage, Digest::of(&identity))),
            namespace: frame.namespace.map(ToOwned::to_owned),
            // Not the pods': a stage may be in another wave the next time, and its Job the same.
            labels: Some(labels.into_iter().chain(map([("bam/wave", work.wave.to_owned())])).collect()),
            annotations: Some(annotations),
            ..ObjectMeta::default()
        },
        spec: Some(spec),
        status: None,
    }
}

type Texts = BTreeMap<String, String>;

fn spec(frame: &Frame<'_>, work: &Work<'_>, labels: Texts, annotations: Texts) -> JobSpec {
    // What is asked to keep its state in time goes on in another pod; all else fails at its limit.
    let secs = |time: Duration| i64::from(i32::try_from(time.as_secs()).unwrap_or(i32::MAX).max(1));
    let (of_pod, of_job) = match (work.time, work.grace) {
        (Some(time), Some(grace)) => (Some(secs(time.saturating_sub(grace))), None),
        (time, _) => (None, time.map(secs)),
    };
    let claim = PersistentVolumeClaimVolumeSource { claim_name: frame.claim.to_owned(), ..Default::default() };
    let pod = PodSpec {
        active_deadline_seconds: of_pod,
        containers: vec![container(frame, work)],
        restart_policy: Some("Never".to_owned()),
        termination_grace_period_seconds: Some(secs(work.grace.unwrap_or(frame.grace))),
        volumes: Some(vec![Volume {
            name: PROJECT.to_owned(),
            persistent_volume_claim: Some(claim),
            ..Volume::default()
        }]),
        ..PodSpec::default()
    };
    JobSpec {
        active_deadline_seconds: of_job,
        backoff_limit: Some(frame.retries.into()),
        pod_failure_policy: Some(failure_policy()),
        template: PodTemplateSpec {
            metadata: Some(ObjectMeta {
                labels: Some(labels),
                annotations: Some(annotations),
                ..ObjectMeta::default()
            }),
            spec: Some(pod),
        },
        ..JobSpec::default()
    }
}

/// A pod that lost its node isn't counted; a stage that failed, or can't be run, would fail again.
fn failure_policy() -> PodFailurePolicy {
    let disruption =
        PodFailurePolicyOnPodConditionsPattern { type_: "DisruptionTarget".to_owned(), status: "True".to_owned() };
    let failure = PodFailurePolicyOnExitCodesRequirement {
        container_name: Some(BAM.to_owned()),
        operator: "In".to_owned(),
        values: vec![1, 2],
    };
    PodFailurePolicy {
        rules: vec![
            PodFailurePolicyRule {
                action: "Ignore".to_owned(),
                on_pod_conditions: Some(vec![disruption]),
                ..PodFailurePolicyRule::default()
            },
            PodFailurePolicyRule {
                action: "FailJob".to_owned(),
                on_exit_codes: Some(failure),
                ..PodFailurePolicyRule::default()
            },
        ],
    }
}

fn container(frame: &Frame<'_>, work: &Work<'_>) -> Container {
    let mut words: Vec<String> = ["bam", "run"].map(ToOwned::to_owned).to_vec();
    words.extend(frame.options.iter().chain(&work.options).cloned());
    if [frame.file, work.stage].iter().any(|word| word.starts_with('-')) {
        words.push("--".to_owned());
    }
    words.extend([frame.file.to_owned(), work.stage.to_owned()]);
    let variable = |(name, value): (&String, &String)| EnvVar {
        name: name.clone(),
        value: Some(literal(value)),
        value_from: None,
    };
    let resources: BTreeMap<String, Quantity> = [
        Some(("cpu", work.cpus.to_string())),
        work.memory_bytes.map(|memory| ("memory", format!("{}Mi", memory.div_ceil(1 << 20).max(1)))),
        (work.gpus > 0).then(|| ("nvidia.com/gpu", work.gpus.to_string())),
    ]
    .into_iter()
    .flatten()
    .map(|(what, quantity)| (what.to_owned(), Quantity(quantity)))
    .collect();
    Container {
        name: BAM.to_owned(),
        image: Some(frame.image.to_owned()),
        command: Some(words.iter().map(|word| literal(word)).collect()),
        env: (!frame.environment.is_empty()).then(|| frame.environment.iter().map(variable).collect()),
        resources: Some(ResourceRequirements {
            limits: Some(resources.clone()),
            requests: Some(resources),
            claims: None,
        }),
        volume_mounts: Some(vec![VolumeMount {
            name: PROJECT.to_owned(),
            mount_path: frame.mount_path.to_owned(),
            sub_path: frame.sub_path.map(ToOwned::to_owned),
            ..VolumeMount::default()
        }]),
        working_dir: Some(frame.mount_path.to_owned()),
        ..Container::default()
    }
}

/// A word in which Kubernetes, which writes variables as `$(NAME)`, replaces nothing.
fn literal(word: &str) -> String {
    word.replace('$', "$$")
}

fn map<const N: usize>(entries: [(&str, String); N]) -> Texts {
    entries.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}
