//! `POST /predict`: the shape that text-embeddings-inference gives to sequence classification, for clients that know it.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use bam_contract::task::TaskSpec;
use bam_inference::answer::Answer;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::app::App;
use super::ask::{ask, check_fit, check_number, cut, head};
use super::body::Body;
use super::error::{ApiError, Refusals};
use super::inputs::Texts;

/// A text, a pair of texts, or a batch of lists of one text or two.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(untagged, expecting = "give \"text\", [\"text\", \"pair\"], or a batch [[\"text\"], [\"text\", \"pair\"], …]")]
pub(super) enum TeiInputs {
    Text(String),
    Pair(Vec<String>),
    Batch(Vec<Vec<String>>),
}

// Strict, unlike its model: what is mistyped would be answered as if it were not there.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct TeiRequest {
    inputs: TeiInputs,
    /// Give the head's outputs instead of probabilities, or of a regression's value.
    #[serde(default)]
    raw_scores: bool,
    /// Cut inputs that are too long for the model instead of refusing them.
    #[serde(default)]
    truncate: Option<bool>,
    /// Where they are cut; there is no other side.
    #[serde(default)]
    truncation_direction: Option<TruncationDirection>,
}

#[derive(Debug, Deserialize, ToSchema)]
pub(super) enum TruncationDirection {
    #[serde(alias = "right")]
    Right,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TeiQuery {
    task: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct TeiPrediction {
    score: f64,
    label: String,
}

/// One list for one input, a list of lists for a batch; the likeliest class first.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub(super) enum TeiResponse {
    One(Vec<TeiPrediction>),
    Batch(Vec<Vec<TeiPrediction>>),
}

/// Classify by one task, in the shape of text-embeddings-inference
#[utoipa::path(
    post,
    path = "/predict",
    tag = "predict",
    params(("task" = Option<String>, Query, description = "The task to answer; by default the model's first of classes")),
    request_body = TeiRequest,
    responses((status = 200, body = TeiResponse), Refusals)
)]
pub(super) async fn tei_predict(
    State(app): State<Arc<App>>,
    query: Result<Query<TeiQuery>, QueryRejection>,
    Body(request): Body<TeiRequest>,
) -> Result<Json<TeiResponse>, ApiError> {
    let Query(query) =
        query.map_err(|error| ApiError::invalid("wrong_shape", error.body_text(), "it may be `?task=NAME`"))?;
    let engine = app.engine()?;
    let heads = &engine.model.info.tasks;
    let chosen = match query.task {
        Some(name) => head(heads, &name)?,
        None => heads.iter().position(|head| !head.is_regression()).ok_or_else(|| {
            ApiError::invalid("unknown_task", "the model has no task of classes", "name a task with `?task=`")
        })?,
    };
    let TeiRequest { inputs, raw_scores, truncate, truncation_direction: None | Some(TruncationDirection::Right) } =
        request;
    let (inputs, is_batch) = texts(inputs)?;
    check_number(&app, inputs.len())?;
    let task = &heads[chosen];
    inputs.iter().enumerate().try_for_each(|(number, input)| check_fit(task, input, number))?;
    let cut = cut(&app, &engine, inputs).await?;
    if truncate != Some(true) {
        check_whole(&cut.tokens(), engine.model.info.max_tokens)?;
    }
    let asked = ask(&app, &engine, cut, vec![chosen]).await?;
    let of_row = |row: &Vec<Vec<f32>>| {
        let predictions = predictions(task, &row[0], raw_scores);
        let label = predictions.first().filter(|_| !task.is_regression()).map(|first| first.label.as_str());
        app.metrics.prediction(&task.name, label);
        predictions
    };
    let mut rows: Vec<_> = asked.logits.iter().map(of_row).collect();
    Ok(Json(if is_batch { TeiResponse::Batch(rows) } else { TeiResponse::One(rows.remove(0)) }))
}

/// Refuses inputs of which something was cut off.
fn check_whole(tokens: &[(usize, usize)], most: usize) -> Result<(), ApiError> {
    let cut = tokens.iter().enumerate().find(|(_, (_, lost))| *lost > 0);
    cut.map_or(Ok(()), |(number, (kept, lost))| {
        let message = format!("input {number} has {} tokens, where {most} are the most", kept + lost);
        let hint = "send `\"truncate\": true` to have it cut";
        Err(ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "too_long", message, hint))
    })
}

fn texts(inputs: TeiInputs) -> Result<(Vec<Texts>, bool), ApiError> {
    let of_list = |list: Vec<String>| {
        let mut list = list.into_iter();
        match (list.next(), list.next(), list.next()) {
            (Some(text), pair, None) => Ok(Texts { text, pair }),
            _ => Err(ApiError::invalid(
                "wrong_shape",
                "`inputs`: a list in a batch holds one text or two",
                "a batch of single texts is [[\"a\"], [\"b\"]]",
            )),
        }
    };
    match inputs {
        TeiInputs::Text(text) => Ok((vec![Texts { text, pair: None }], false)),
        // As many inputs as it holds, for who counts them to refuse.
        TeiInputs::Pair(list) if list.is_empty() => Ok((Vec::new(), true)),
        TeiInputs::Pair(list) => Ok((vec![of_list(list)?], false)),
        TeiInputs::Batch(lists) => Ok((lists.into_iter().map(of_list).collect::<Result<_, _>>()?, true)),
    }
}

fn predictions(task: &TaskSpec, logits: &[f32], raw_scores: bool) -> Vec<TeiPrediction> {
    let scores = match Answer::of(task, logits) {
        Answer::Value(value) => {
            let score = if raw_scores { f64::from(logits[0]) } else { value };
            return vec![TeiPrediction { score, label: task.name.clone() }];
        }
        Answer::Classes(_) if raw_scores => logits.iter().map(|logit| f64::from(*logit)).collect(),
        Answer::Classes(probabilities) => probabilities,
    };
    let named = task.labels.iter().zip(scores).map(|(label, score)| TeiPrediction { score, label: label.clone() });
    let mut predictions: Vec<_> = named.collect();
    predictions.sort_by(|a, b| b.score.total_cmp(&a.score));
    predictions
}
