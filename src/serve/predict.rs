//! `POST /v1/predict`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use bam_contract::task::TaskSpec;
use bam_inference::answer::{Answer, likeliest};

use super::api::{LabelProbability, PredictRequest, PredictResponse, RowResult, TaskResult};
use super::app::App;
use super::ask::{ask, check_fit, check_number, cut, head};
use super::body::Body;
use super::error::{ApiError, Refusals};
use super::inputs::{Inputs, Texts};

/// Answer texts or pairs, by one task or several in one pass of the encoder
#[utoipa::path(
    post,
    path = "/v1/predict",
    tag = "predict",
    request_body = PredictRequest,
    responses((status = 200, body = PredictResponse), Refusals)
)]
pub(super) async fn predict(
    State(app): State<Arc<App>>,
    Body(request): Body<PredictRequest>,
) -> Result<Json<PredictResponse>, ApiError> {
    let engine = app.engine()?;
    let heads = &engine.model.info.tasks;
    let Inputs(inputs) = request.inputs;
    check_number(&app, inputs.len())?;
    if request.top_k == Some(0) {
        return Err(ApiError::invalid("wrong_shape", "`top_k`: at least 1", "leave it out for all classes"));
    }
    let named = named(heads, &request.tasks)?;
    let fitting = Fitting::new(heads, &inputs, named)?;
    let asked_of: Vec<usize> = (0..heads.len()).filter(|head| fitting.answers_any_by(*head)).collect();
    let cut = cut(&app, &engine, inputs).await?;
    let asked = ask(&app, &engine, cut, asked_of.clone()).await?;
    let result = |row: usize| {
        let of_head = |(head, logits): (&usize, &Vec<f32>)| {
            let task = &heads[*head];
            let result = || {
                let result = task_result(task, logits, request.top_k, request.raw);
                app.metrics.prediction(&task.name, result.label.as_deref());
                (task.name.clone(), result)
            };
            fitting.of(row).contains(head).then(result)
        };
        let tasks = asked_of.iter().zip(&asked.logits[row]).filter_map(of_head).collect();
        let (tokens, lost_tokens) = asked.tokens[row];
        RowResult { tokens, lost_tokens, tasks }
    };
    Ok(Json(PredictResponse {
        model: engine.about.fingerprint.to_string(),
        results: (0..asked.logits.len()).map(result).collect(),
        timings: asked.timings(),
    }))
}

/// The heads that are named, each once.
fn named(heads: &[TaskSpec], names: &[String]) -> Result<Vec<usize>, ApiError> {
    if names.len() > heads.len() {
        let message = format!("`tasks`: {} names, where the model has {} tasks", names.len(), heads.len());
        return Err(ApiError::invalid("wrong_shape", message, "name each task once"));
    }
    let mut named = names.iter().map(|name| head(heads, name)).collect::<Result<Vec<_>, _>>()?;
    named.sort_unstable();
    named.dedup();
    Ok(named)
}

/// Which heads each input is for: those named, which it must fit, or all that it fits.
struct Fitting {
    is_pair: Vec<bool>,
    /// Of a text alone, and of a pair.
    heads: [Vec<usize>; 2],
}

impl Fitting {
    fn new(heads: &[TaskSpec], inputs: &[Texts], named: Vec<usize>) -> Result<Self, ApiError> {
        let all: Vec<usize> = (0..heads.len()).collect();
        let fitting = if named.is_empty() {
            [false, true].map(|pair| all.iter().copied().filter(|head| heads[*head].is_pair() == pair).collect())
        } else {
            [named.clone(), named]
        };
        let fitting = Self { is_pair: inputs.iter().map(|input| input.pair.is_some()).collect(), heads: fitting };
        for (number, input) in inputs.iter().enumerate() {
            // Where none fits, it is told of one that doesn't.
            let asked = Some(fitting.of(number)).filter(|asked| !asked.is_empty()).unwrap_or(&all);
            asked.iter().try_for_each(|head| check_fit(&heads[*head], input, number))?;
        }
        Ok(fitting)
    }

    fn of(&self, input: usize) -> &[usize] {
        &self.heads[usize::from(self.is_pair[input])]
    }

    /// Whether the head is for any input.
    fn answers_any_by(&self, head: usize) -> bool {
        [false, true].iter().any(|pair| self.is_pair.contains(pair) && self.heads[usize::from(*pair)].contains(&head))
    }
}

fn task_result(task: &TaskSpec, logits: &[f32], top_k: Option<usize>, raw: bool) -> TaskResult {
    let logits_told = raw.then(|| logits.to_vec());
    match Answer::of(task, logits) {
        Answer::Value(value) => TaskResult { value: Some(value), logits: logits_told, ..TaskResult::default() },
        Answer::Classes(probabilities) => {
            let label = task.labels[likeliest(&probabilities)].clone();
            let mut labels: Vec<_> = by_label(task, &probabilities).collect();
            labels.sort_by(|a, b| b.probability.total_cmp(&a.probability));
            labels.truncate(top_k.unwrap_or(usize::MAX));
            TaskResult { label: Some(label), labels: Some(labels), value: None, logits: logits_told }
        }
    }
}

fn by_label(task: &TaskSpec, probabilities: &[f64]) -> impl Iterator<Item = LabelProbability> {
    task.labels
        .iter()
        .zip(probabilities)
        .map(|(label, probability)| LabelProbability { label: label.clone(), probability: *probability })
}
