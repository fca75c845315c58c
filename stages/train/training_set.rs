//! What is trained on: each task's rows, and what its teacher said of them.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use bam_contract::artifact::encoder::check_tokenizer;
use bam_contract::artifact::predictions::Predictions;
use bam_contract::artifact::tokens::{TokenRows, TokenizerInfo, Tokens};
use bam_contract::fault::Fault;
use bam_contract::job::Job;
use bam_contract::stage::TrainParams;
use bam_contract::task::{Split, TaskSpec};

use super::row_file::{RowFile, RowFileWriter};
use super::sampler::Draw;
use super::teacher::Teacher;
use crate::encoder::Model;

#[derive(Debug)]
pub(super) struct TrainingSet {
    tasks: Vec<TrainingTask>,
    tokenizer: TokenizerInfo,
}

#[derive(Debug)]
pub(super) struct TrainingTask {
    pub(super) spec: TaskSpec,
    pub(super) tokens: Tokens,
    pub(super) rows: RowFile,
    /// Targets of the labels: class index, or the value scaled into [0, 1].
    pub(super) gold: Vec<f32>,
    /// The teacher's logits, `outputs` per row, in the order of `rows`.
    pub(super) teacher: Option<Vec<f32>>,
}

impl TrainingSet {
    /// Reads tokens and teachers, and checks that they belong together before the first step.
    pub(super) fn open(params: &TrainParams, job: &Job) -> Result<Self> {
        let mut teachers = BTreeMap::new();
        for input in job.inputs_of("teachers") {
            let predictions = Predictions::open(&input.path)?;
            let name = predictions.task.name.clone();
            if teachers.insert(name.clone(), (predictions, input.stage.clone())).is_some() {
                let hint = "give each task one teacher; several are averaged before they teach";
                return Err(Fault::new(format!("two teachers for the task `{name}`"), hint).into());
            }
        }
        let mut tasks: Vec<TrainingTask> = Vec::new();
        let mut tokenizer: Option<TokenizerInfo> = None;
        for input in job.inputs_of("tokens") {
            let tokens = Tokens::open(&input.path)?;
            let spec = tokens.task.clone();
            if tasks.iter().any(|task| task.spec.name == spec.name) {
                let hint = "each task has one head and one set of rows";
                return Err(Fault::new(format!("two inputs of `tokens` hold the task `{}`", spec.name), hint).into());
            }
            check_tokenizer(super::start(params, job)?, &tokens.tokenizer, &input.stage)?;
            let tokenizer = tokenizer.get_or_insert_with(|| tokens.tokenizer.clone());
            tokenizer.max_tokens = tokenizer.max_tokens.max(tokens.tokenizer.max_tokens);
            if !tokens.splits.contains(&Split::Train) {
                let hint = "a set with test rows alone can be predicted, not trained on";
                return Err(Fault::new(format!("`{}` has no train split", input.stage), hint).into());
            }
            let teacher = teachers.remove(&spec.name);
            let teacher = teacher.map(|(predictions, stage)| Teacher::open(&predictions, &spec, stage)).transpose()?;
            tasks.push(TrainingTask::read(tokens, teacher, params, job, &input.stage)?);
        }
        if let Some((name, (_, stage))) = teachers.into_iter().next() {
            let hint = "list the task's tokens too, or drop its teacher";
            return Err(
                Fault::new(format!("teacher `{stage}` teaches the task `{name}`, which is not trained"), hint).into()
            );
        }
        let tokenizer = tokenizer.context("the job has no tokens")?;
        Ok(Self { tasks, tokenizer })
    }

    pub(super) fn tasks(&self) -> impl Iterator<Item = &TaskSpec> {
        self.tasks.iter().map(|task| &task.spec)
    }

    pub(super) fn task(&self, index: usize) -> &TrainingTask {
        &self.tasks[index]
    }

    pub(super) fn all(&self) -> &[TrainingTask] {
        &self.tasks
    }

    /// Whether any task has a teacher.
    pub(super) fn is_taught(&self) -> bool {
        self.tasks.iter().any(|task| task.teacher.is_some())
    }

    pub(super) fn rows(&self) -> usize {
        self.task_rows().iter().sum()
    }

    pub(super) fn task_rows(&self) -> Vec<usize> {
        self.tasks.iter().map(|task| task.rows.len()).collect()
    }

    /// The rows of a batch, shortest first.
    pub(super) fn read(&self, mut draws: Vec<Draw>) -> Result<DrawnRows> {
        // By task and row where lengths are equal: the order must not depend on the sort.
        draws.sort_by_key(|draw| (self.task(draw.task).rows.tokens(draw.row), *draw));
        let mut rows = TokenRows::default();
        for draw in &draws {
            self.task(draw.task).rows.read(draw.row, &mut rows)?;
        }
        Ok(DrawnRows { draws, rows })
    }

    pub(super) fn pad_id(&self) -> u32 {
        self.tokenizer.pad_id
    }

    pub(super) fn max_tokens(&self) -> usize {
        self.tokenizer.max_tokens
    }

    /// Checks that the encoder has a word vector for every token id and a position for every token.
    pub(super) fn check_fits(&self, model: &Model) -> Result<()> {
        let vocabulary = self.tokenizer.vocabulary_size;
        if vocabulary > model.config.vocab_size {
            let message =
                format!("the tokenizer has {vocabulary} pieces, the encoder {} word vectors", model.config.vocab_size);
            return Err(Fault::new(message, "take config.json, weights and tokenizer from the same encoder").into());
        }
        let (longest, positions) = (self.tokenizer.max_tokens, model.config.max_position_embeddings);
        if longest > positions {
            let message = format!("rows of up to {longest} tokens, but the encoder has {positions} positions");
            return Err(Fault::new(message, "lower `max_tokens` of the tokenize stages").into());
        }
        Ok(())
    }
}

/// Rows of a batch.
#[derive(Debug)]
pub(super) struct DrawnRows {
    pub(super) draws: Vec<Draw>,
    /// The tokens of each.
    pub(super) rows: TokenRows,
}

impl TrainingTask {
    /// Reads the rows of a task and what its teacher says of them, some thousands at a time.
    fn read(
        tokens: Tokens,
        mut teacher: Option<Teacher>,
        params: &TrainParams,
        job: &Job,
        stage: &str,
    ) -> Result<Self> {
        let mut writer = RowFileWriter::create(&job.output)?;
        let (mut all, mut gold) = (0, Vec::new());
        for chunk in tokens.chunks(Split::Train)? {
            let mut chunk = chunk?;
            all += chunk.len();
            if let Some(fold) = params.fold {
                chunk = fold.part(&chunk, false);
            }
            writer.write(&chunk)?;
            for label in &chunk.labels {
                gold.push(gold_target(&tokens.task, *label, gold.len(), stage)?);
            }
            if let Some(teacher) = &mut teacher {
                teacher.answer(&chunk)?;
            }
        }
        ensure!(all > 0, Fault::new(format!("the train split of `{stage}` has no rows"), "is its file empty?"));
        if let Some(fold) = params.fold {
            fold.check_part(gold.len(), all, false, stage)?;
        }
        let teacher = teacher.map(Teacher::finish).transpose()?;
        Ok(Self { spec: tokens.task.clone(), tokens, rows: writer.finish()?, gold, teacher })
    }
}

/// The training target that a row's label gives.
fn gold_target(spec: &TaskSpec, label: Option<f64>, row: usize, stage: &str) -> Result<f32> {
    let label = label.ok_or_else(|| {
        let message = format!("row {row} of the train split of `{stage}` has no label");
        Fault::new(message, "`columns: {label: …}` names the column that holds it")
    })?;
    Ok(match spec.range {
        Some([least, greatest]) => ((label - least) / (greatest - least)) as f32,
        None => label as f32,
    })
}
