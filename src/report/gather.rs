//! Reads all that a report tells of. What can't be read is missing, and no reason to tell nothing.

use std::path::PathBuf;

use anyhow::Result;
use bam_contract::artifact::ArtifactKind;
use bam_contract::artifact::comparison::Comparison;
use bam_contract::artifact::scores::Scores;
use bam_contract::manifest::Manifest;
use bam_contract::stage::StageSpec;

use super::answers::{self, Answers};
use super::{NamedComparison, Report, StageReport, disagreement, missing, scores, trainings};
use crate::pipeline::{Pipeline, Stage};
use crate::store::Store;

/// How one stage stands, and the artifact that is told of.
#[derive(Debug)]
pub(crate) struct Standing {
    pub(crate) state: String,
    pub(crate) manifest: Option<Manifest>,
}

/// A pipeline's stages with what they have made.
pub(super) struct Sources<'a> {
    pub(super) pipeline: &'a Pipeline,
    store: &'a Store,
    standings: &'a [Standing],
}

impl Sources<'_> {
    /// Stages that have made such an artifact, each with its folder.
    pub(super) fn made(&self, kind: ArtifactKind) -> impl Iterator<Item = (usize, &Stage, PathBuf)> {
        let stages = self.pipeline.stages.iter().enumerate();
        let stages = stages.filter(move |(_, stage)| stage.spec.kind().writes == kind);
        stages.filter_map(|(at, stage)| Some((at, stage, self.folder(at)?)))
    }

    pub(super) fn folder(&self, at: usize) -> Option<PathBuf> {
        let manifest = self.standings[at].manifest.as_ref()?;
        Some(self.store.folder(&manifest.key.kind, manifest.fingerprint))
    }

    /// The stage that a stage reads in that slot.
    pub(super) fn input(&self, at: usize, slot: &str) -> Option<usize> {
        self.pipeline.stages[at].inputs.iter().find(|edge| edge.slot == slot).map(|edge| edge.stage)
    }

    pub(super) fn name(&self, at: usize) -> &str {
        &self.pipeline.stages[at].name
    }

    /// What an `ensemble` stage puts together; of other stages nothing.
    pub(super) fn members(&self, at: usize) -> impl Iterator<Item = usize> {
        let edges = self.pipeline.stages[at].inputs.iter();
        edges.filter(|edge| edge.slot.starts_with("predictions.")).map(|edge| edge.stage)
    }

    /// The model whose answers a stage's predictions are; their own name where several models made them.
    pub(super) fn model_of(&self, at: usize) -> &str {
        self.name(self.input(at, "model").unwrap_or(at))
    }
}

/// The report of a pipeline whose stages stand so. Rows of the data are shown if `with_examples`.
pub(crate) fn gather(
    pipeline: &Pipeline,
    standings: Vec<Standing>,
    of: String,
    store: &Store,
    with_examples: bool,
) -> Report {
    let sources = Sources { pipeline, store, standings: &standings };
    let mut unread = Vec::new();
    let scored = read_all(&sources, ArtifactKind::Scores, &mut unread, |_, _, folder| Scores::read(folder));
    let comparisons = read_all(&sources, ArtifactKind::Comparison, &mut unread, |_, stage, folder| {
        Ok(NamedComparison { stage: stage.name.clone(), comparison: Comparison::read(folder)? })
    });
    let trainings = read_all(&sources, ArtifactKind::Checkpoint, &mut unread, |_, stage, folder| {
        trainings::read(&stage.name, folder)
    });
    let answers =
        read_all(&sources, ArtifactKind::Predictions, &mut unread, |at, _, folder| answers::read(&sources, at, folder));
    let answers = distinct(answers.into_iter().flatten().collect());
    let disagreements = disagreement::find(&sources, &answers, with_examples);
    let scores = scores::lines(&sources, &scored, &answers);
    let missing = missing::find(&sources, &scores, &answers, unread);
    let stages = pipeline.stages.iter().zip(standings).map(|(stage, standing)| StageReport {
        name: stage.name.clone(),
        kind: stage.spec.kind().name,
        state: standing.state,
        reads: stage.inputs.iter().map(|edge| edge.stage).collect(),
        manifest: standing.manifest,
    });
    let (stages, pipeline) = (stages.collect(), pipeline.name.clone());
    Report { pipeline, of, stages, scores, comparisons, trainings, answers, disagreements, missing }
}

/// What `read` makes of each artifact of a kind; why not, where it fails, goes into `unread`.
fn read_all<T>(
    sources: &Sources<'_>,
    kind: ArtifactKind,
    unread: &mut Vec<String>,
    read: impl Fn(usize, &Stage, &std::path::Path) -> Result<T>,
) -> Vec<T> {
    let mut found = Vec::new();
    for (at, stage, folder) in sources.made(kind) {
        match read(at, stage, &folder) {
            Ok(value) => found.push(value),
            Err(error) => unread.push(format!("`{}` cannot be read: {error:#}", stage.name)),
        }
    }
    found
}

/// Without answers of a model to rows it has answered in another stage.
fn distinct(answers: Vec<Answers>) -> Vec<Answers> {
    let mut distinct: Vec<Answers> = Vec::new();
    for answer in answers {
        let same =
            |known: &Answers| (&known.model, &known.task, known.split) == (&answer.model, &answer.task, answer.split);
        if !distinct.iter().any(same) {
            distinct.push(answer);
        }
    }
    distinct
}

/// Students, and where the predictions of their teachers are from.
pub(super) fn students<'a>(sources: &'a Sources<'_>) -> impl Iterator<Item = (usize, Vec<usize>)> + 'a {
    let stages = sources.pipeline.stages.iter().enumerate();
    stages.filter(|(_, stage)| matches!(stage.spec, StageSpec::Train(_))).filter_map(|(at, stage)| {
        let teachers = stage.inputs.iter().filter(|edge| edge.slot.starts_with("teachers."));
        let teachers: Vec<usize> = teachers.map(|edge| edge.stage).collect();
        (!teachers.is_empty()).then_some((at, teachers))
    })
}
