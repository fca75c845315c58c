//! The Jobs of a pipeline.

use std::collections::BTreeMap;

use anyhow::Result;
use bam_contract::digest::{Digest, Fingerprint};
use k8s_openapi::api::batch::v1::Job;

use super::job::{Frame, Work, job};
use super::waves::waves;
use crate::fingerprint::{self, Digests};
use crate::pipeline::{Pipeline, Stage};
use crate::plan::{Decision, Plan};
use crate::profile::Profile;
use crate::run::{Limits, PLENTY};
use crate::span::Span;

/// The Jobs of those stages that run, wave by wave.
pub(crate) fn gather(
    pipeline: &Pipeline,
    plan: &Plan,
    runs: &[bool],
    frame: &Frame<'_>,
    profile: Option<&Profile>,
    digests: &mut Digests,
) -> Result<Vec<Vec<Job>>> {
    let limits = Limits {
        threads: PLENTY,
        memory_bytes: u64::MAX,
        gpus: Vec::new(),
        jobs: PLENTY,
        device: "auto".to_owned(),
        cluster: Some(profile.map(Profile::resources).unwrap_or_default()),
    };
    let mut jobs = BTreeMap::<usize, Vec<Job>>::new();
    let computations = computations(pipeline, plan, digests)?;
    let waves = waves(&waits_for(pipeline, plan), runs);
    for (at, stage) in pipeline.stages.iter().enumerate() {
        let Some(wave) = waves[at] else { continue };
        let kind = stage.spec.kind().name;
        let needs = limits.needs(stage, plan.last[at].map(|last| last.peak_memory_bytes));
        let (gpus, _) = needs.gpus.parts();
        let grace = profile.and_then(|profile| profile.settings.grace_of(kind, needs.time));
        let work = Work {
            stage: &stage.name,
            wave: &number(wave),
            computation: computations[at],
            options: options(stage, needs.threads, gpus),
            cpus: needs.threads,
            memory_bytes: needs.is_memory_known.then_some(needs.memory_bytes),
            gpus,
            time: needs.time.map(|Span(time)| time),
            grace: grace.map(|Span(grace)| grace),
        };
        jobs.entry(wave).or_default().push(job(frame, &work));
    }
    Ok(jobs.into_values().collect())
}

/// A wave as files and labels call it.
pub(crate) fn number(wave: usize) -> String {
    format!("{wave:02}")
}

/// Has `bam run` give the stage what its container has. What isn't said of a stage's threads would be divided by the number of
/// its family, as if they ran side by side there.
fn options(stage: &Stage, threads: usize, gpus: usize) -> Vec<String> {
    let given = threads > 1 && stage.resources.threads.is_none();
    [
        Some(format!("--threads={threads}")),
        given.then(|| format!("--set=resources.{}.threads={threads}", stage.spec.kind().name)),
        (gpus == 0).then(|| "--device=cpu".to_owned()),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The stages that each one comes after: those it reads, and one that makes the same.
fn waits_for(pipeline: &Pipeline, plan: &Plan) -> Vec<Vec<usize>> {
    let of = |(stage, decision): (&Stage, &Decision)| {
        let mut before: Vec<usize> = stage.inputs.iter().map(|edge| edge.stage).collect();
        if let Decision::Waits { on, .. } = decision {
            before.extend(on);
        }
        before
    };
    pipeline.stages.iter().zip(&plan.decisions).map(of).collect()
}

/// What each stage computes: by its key, in which the computation of an artifact that isn't there yet stands for its content.
fn computations(pipeline: &Pipeline, plan: &Plan, digests: &mut Digests) -> Result<Vec<Digest>> {
    let named = |fingerprint: Fingerprint| Digest::of(fingerprint.to_string().as_bytes());
    let (mut computations, mut contents) = (Vec::new(), Vec::<Digest>::new());
    for (stage, decision) in pipeline.stages.iter().zip(&plan.decisions) {
        let inputs = || stage.inputs.iter().map(|edge| contents[edge.stage]).collect::<Vec<_>>();
        let (computation, content) = match decision {
            Decision::Cached(manifest) | Decision::Remote { manifest, .. } => {
                (named(manifest.fingerprint), Some(manifest.content))
            }
            Decision::Run { key, .. } => (named(key.fingerprint()), None),
            // Of what is still to be fetched only the name is known.
            Decision::Waits { .. } if stage.unfetched().is_some() => {
                (Digest::of(&serde_json::to_vec(&(&stage.spec, inputs()))?), None)
            }
            Decision::Waits { .. } => (named(fingerprint::key(stage, &inputs(), digests)?.fingerprint()), None),
        };
        computations.push(computation);
        contents.push(content.unwrap_or(computation));
    }
    Ok(computations)
}
