//! What is served, and how it is: `/v1/tasks`, `/v1/info`, `/livez`, `/readyz`, `/metrics`.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::IntoResponse;
use serde::Serialize;
use utoipa::ToSchema;

use super::app::App;
use super::engine::Engine;
use super::error::{ApiError, ErrorBody};
use super::exposition::{Exposition, as_text};

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct TasksResponse {
    tasks: Vec<TaskInfo>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct TaskInfo {
    name: String,
    kind: TaskKind,
    /// Whether an input is a pair of texts.
    pair: bool,
    /// Classes, in the order of the outputs.
    labels: Vec<String>,
    /// Least and greatest value of a regression.
    #[serde(skip_serializing_if = "Option::is_none")]
    range: Option<[f64; 2]>,
    /// By metric, on the dev split; empty where no `score` stage has scored this very model.
    dev_scores: BTreeMap<&'static str, f64>,
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum TaskKind {
    Classification,
    Regression,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct InfoResponse {
    /// Fingerprint of the model.
    model: String,
    /// The stage that made it.
    #[serde(skip_serializing_if = "Option::is_none")]
    stage: Option<String>,
    tasks: Vec<String>,
    max_tokens: usize,
    /// Format of its weights: `fp32`, `fp16` or `int8`; absent where another program wrote it.
    #[serde(skip_serializing_if = "Option::is_none")]
    precision: Option<String>,
    /// Rows of the export that were asked again when the model was loaded, and answered as then.
    probes: usize,
    bam_version: &'static str,
    limits: Limits,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Limits {
    max_inputs: usize,
    max_body_bytes: usize,
    queue_tokens: usize,
    batch_tokens: usize,
    max_wait_secs: f64,
    sessions: usize,
    timeout_secs: f64,
}

/// The tasks that the model answers
#[utoipa::path(get, path = "/v1/tasks", tag = "about", responses(
    (status = 200, body = TasksResponse),
    (status = 401, description = "a key is needed", body = ErrorBody),
    (status = 421, description = "the `host` is not one that the server goes by", body = ErrorBody),
    (status = 503, description = "not ready", body = ErrorBody, headers(("retry-after" = u64, description = "seconds"))),
))]
pub(super) async fn tasks(State(app): State<Arc<App>>) -> Result<Json<TasksResponse>, ApiError> {
    let engine = app.engine()?;
    Ok(Json(TasksResponse { tasks: task_infos(&engine) }))
}

fn task_infos(engine: &Engine) -> Vec<TaskInfo> {
    let info = |task: &bam_contract::task::TaskSpec| TaskInfo {
        name: task.name.clone(),
        kind: if task.is_regression() { TaskKind::Regression } else { TaskKind::Classification },
        pair: task.is_pair(),
        labels: task.labels.clone(),
        range: task.range,
        dev_scores: engine.about.dev_scores(&task.name),
    };
    engine.model.info.tasks.iter().map(info).collect()
}

/// The model, and the server's limits
#[utoipa::path(get, path = "/v1/info", tag = "about", responses(
    (status = 200, body = InfoResponse),
    (status = 401, description = "a key is needed", body = ErrorBody),
    (status = 421, description = "the `host` is not one that the server goes by", body = ErrorBody),
    (status = 503, description = "not ready", body = ErrorBody, headers(("retry-after" = u64, description = "seconds"))),
))]
pub(super) async fn info(State(app): State<Arc<App>>) -> Result<Json<InfoResponse>, ApiError> {
    let engine = app.engine()?;
    let settings = &app.settings;
    Ok(Json(InfoResponse {
        model: engine.about.fingerprint.to_string(),
        stage: engine.about.stage().map(ToOwned::to_owned),
        tasks: engine.model.info.tasks.iter().map(|task| task.name.clone()).collect(),
        max_tokens: engine.model.info.max_tokens,
        precision: engine.model.info.precision.map(|precision| precision.to_string()),
        probes: engine.probes,
        bam_version: env!("CARGO_PKG_VERSION"),
        limits: Limits {
            max_inputs: settings.max_inputs,
            max_body_bytes: settings.max_body_bytes,
            queue_tokens: settings.queue.queue_tokens,
            batch_tokens: settings.queue.batch_tokens,
            max_wait_secs: settings.queue.wait.as_secs_f64(),
            sessions: engine.sessions,
            timeout_secs: settings.timeout.as_secs_f64(),
        },
    }))
}

/// Whether the program runs
#[utoipa::path(get, path = "/livez", tag = "health", responses(
    (status = 200, description = "it does", body = String),
    (status = 421, description = "the `host` is not one that the server goes by", body = ErrorBody),
))]
pub(super) async fn livez() -> &'static str {
    "ok\n"
}

/// Whether requests will be answered: the model is loaded, and has answered as at its export
#[utoipa::path(get, path = "/readyz", tag = "health", responses(
    (status = 200, description = "they will", body = String),
    (status = 421, description = "the `host` is not one that the server goes by", body = ErrorBody),
    (
        status = 503,
        description = "loading, or about to end",
        body = ErrorBody,
        headers(("retry-after" = u64, description = "seconds"))
    ),
))]
pub(super) async fn readyz(State(app): State<Arc<App>>) -> Result<&'static str, ApiError> {
    if app.is_draining() {
        return Err(ApiError::not_ready("the server is about to end"));
    }
    app.engine().map(|_| "ready\n")
}

/// Counters for Prometheus, in its newer form or, where that is rather accepted, in its older one
#[utoipa::path(get, path = "/metrics", tag = "health", responses(
    (status = 200, content((String = "application/openmetrics-text"), (String = "text/plain"))),
    (status = 401, description = "a key is needed", body = ErrorBody),
    (status = 421, description = "the `host` is not one that the server goes by", body = ErrorBody),
))]
pub(super) async fn metrics(State(app): State<Arc<App>>, headers: HeaderMap) -> impl IntoResponse {
    let text = app.metrics.text(app.waiting());
    let (content_type, text) = match Exposition::accepted(&headers) {
        Exposition::OpenMetrics => ("application/openmetrics-text; version=1.0.0; charset=utf-8", text),
        Exposition::Text => ("text/plain; version=0.0.4; charset=utf-8", as_text(&text)),
    };
    ([(header::CONTENT_TYPE, content_type), (header::VARY, "accept")], text)
}
