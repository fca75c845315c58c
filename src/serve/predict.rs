//! `POST /v1/predict`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use bam_contract::task::TaskSpec;
use bam_inference::answer::{Answer, likeliest};

use super::api::{LabelProbability, PredictRequest, PredictResponse, RowResult, TaskResult, Texts};
use super::app::App;
use super::ask::{ask, check_fit, check_number, cut, head};
use super::body::Body;
use super::error::{ApiError, Refusals};

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
    let inputs = request.inputs.into_texts();
    check_number(&app, inputs.len())?;
    if request.top_k == Some(0) {
        return Err(ApiError::invalid("wrong_shape", "`top_k`: at least 1", "leave it out for all classes"));
    }
    let named = request.tasks.iter().map(|name| head(heads, name)).collect::<Result<Vec<_>, _>>()?;
    let fitting = fitting(heads, &inputs, &named)?;
    let asked_of: Vec<usize> =
        (0..heads.len()).filter(|head| fitting.iter().any(|fitting| fitting.contains(head))).collect();
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
            fitting[row].contains(head).then(result)
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

/// Which heads each input is for: those named, which it must fit, or all that it fits.
fn fitting(heads: &[TaskSpec], inputs: &[Texts], named: &[usize]) -> Result<Vec<Vec<usize>>, ApiError> {
    let of_input = |(number, input): (usize, &Texts)| {
        if !named.is_empty() {
            named.iter().try_for_each(|head| check_fit(&heads[*head], input, number))?;
            return Ok(named.to_vec());
        }
        let fits = |head: &usize| heads[*head].is_pair() == input.pair.is_some();
        let fitting: Vec<usize> = (0..heads.len()).filter(fits).collect();
        if fitting.is_empty() {
            heads.iter().try_for_each(|task| check_fit(task, input, number))?;
        }
        Ok(fitting)
    };
    inputs.iter().enumerate().map(of_input).collect()
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
