//! From texts to outputs: word pieces, the queue, the answer.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use bam_contract::artifact::tokens::TokenRows;
use bam_contract::fault::closest;
use bam_contract::task::TaskSpec;
use bam_inference::model::{OnnxModel, Texts as Row};

use super::api::Timings;
use super::app::App;
use super::cutting::{Size, Uncut};
use super::engine::Engine;
use super::error::{ApiError, shortened};
use super::inputs::Texts;
use super::queue::Refused;

/// So few bytes are cut sooner than another thread would begin.
const AT_ONCE_BYTES: usize = 2048;
const MOST_RETRY_SECS: f64 = 60.0;

/// What the model said.
#[derive(Debug)]
pub(super) struct Asked {
    /// Outputs by input, and by task in the order of `tasks`.
    pub(super) logits: Vec<Vec<Vec<f32>>>,
    /// Tokens of each input, and how many were cut off.
    pub(super) tokens: Vec<(usize, usize)>,
    tokenize: Duration,
    queue: Duration,
    compute: Duration,
}

impl Asked {
    pub(super) fn timings(&self) -> Timings {
        let ms = |time: Duration| (time.as_secs_f64() * 1e5).round() / 1e2;
        Timings { tokenize_ms: ms(self.tokenize), queue_ms: ms(self.queue), compute_ms: ms(self.compute) }
    }
}

/// Inputs in word pieces.
#[derive(Debug)]
pub(super) struct Cut {
    rows: TokenRows,
    time: Duration,
}

impl Cut {
    /// Tokens of each input, and how many were cut off.
    pub(super) fn tokens(&self) -> Vec<(usize, usize)> {
        let rows = &self.rows;
        (0..rows.len()).map(|row| (rows.tokens(row), rows.lost_tokens[row] as usize)).collect()
    }
}

/// Cuts inputs, which are no more than may be, into the model's word pieces.
pub(super) async fn cut(app: &App, engine: &Engine, inputs: Vec<Texts>) -> Result<Cut, ApiError> {
    let (rows, time) = word_pieces(app, &engine.model, inputs).await?;
    app.metrics.phase("tokenize", time);
    Ok(Cut { rows, time })
}

/// Asks the heads `tasks` of a model about all inputs.
pub(super) async fn ask(app: &App, engine: &Engine, cut: Cut, tasks: Vec<usize>) -> Result<Asked, ApiError> {
    let tokens = cut.tokens();
    let ticket = engine.queue.ask(cut.rows, tasks).map_err(|refused| refusal(app, &refused))?;
    let answered = ticket.answer().await.map_err(ApiError::internal)?;
    app.metrics.phase("queue", answered.wait);
    app.metrics.phase("compute", answered.compute);
    Ok(Asked { logits: answered.logits, tokens, tokenize: cut.time, queue: answered.wait, compute: answered.compute })
}

/// Inputs as rows, and what cutting them took.
async fn word_pieces(app: &App, model: &Arc<OnnxModel>, inputs: Vec<Texts>) -> Result<(TokenRows, Duration), ApiError> {
    let size = Size::of(&inputs);
    let (rows, time) = if size.bytes <= AT_ONCE_BYTES {
        let started = Instant::now();
        (encode(model, &inputs), started.elapsed())
    } else {
        let model = model.clone();
        app.cutting.cut(size, move || encode(&model, &inputs)).await.map_err(uncut)?
    };
    Ok((rows.map_err(|error| ApiError::internal(format!("{error:#}")))?, time))
}

fn encode(model: &OnnxModel, inputs: &[Texts]) -> anyhow::Result<TokenRows> {
    let texts: Vec<_> = inputs.iter().map(|input| Row { text: &input.text, pair: input.pair.as_deref() }).collect();
    model.encode(&texts)
}

/// Holds the number of a request's inputs against its bound.
pub(super) fn check_number(app: &App, inputs: usize) -> Result<(), ApiError> {
    let most = app.settings.max_inputs;
    match inputs {
        0 => Err(ApiError::invalid("no_inputs", "`inputs` is empty", "give at least one")),
        _ if inputs > most => {
            let message = format!("{inputs} inputs, where {most} are the most");
            Err(ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "too_many_inputs", message, "send several requests"))
        }
        _ => Ok(()),
    }
}

fn refusal(app: &App, refused: &Refused) -> ApiError {
    match refused {
        Refused::TooLarge => too_many_tokens(app),
        Refused::Full { tokens, time } => busy(format!("{tokens} tokens of other requests come before"), *time),
    }
}

/// The error of a request that will never fit.
pub(super) fn too_many_tokens(app: &App) -> ApiError {
    let message = format!("the inputs have more than {} tokens", app.settings.queue.queue_tokens);
    ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "too_many_tokens", message, "send several requests")
}

/// The error of a request whose texts were not cut.
pub(super) fn uncut(uncut: Uncut) -> ApiError {
    match uncut {
        Uncut::Full { bytes, time } => {
            busy(format!("{bytes} bytes of other requests are to be cut into word pieces before"), time)
        }
        Uncut::Panicked(error) => ApiError::internal(error.to_string()),
    }
}

/// The answer where others come first, and take so long.
fn busy(message: String, time: Duration) -> ApiError {
    let hint = "try again after the seconds that `retry-after` says";
    let error = ApiError::new(StatusCode::TOO_MANY_REQUESTS, "busy", message, hint);
    error.retry_after(time.as_secs_f64().ceil().clamp(1.0, MOST_RETRY_SECS) as u64)
}

/// The index of a head.
pub(super) fn head(heads: &[TaskSpec], name: &str) -> Result<usize, ApiError> {
    heads.iter().position(|head| head.name == name).ok_or_else(|| {
        let known: Vec<&str> = heads.iter().map(|head| head.name.as_str()).collect();
        let hint = match closest(name, known.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("its tasks are {}", known.join(", ")),
        };
        ApiError::invalid("unknown_task", format!("the model has no task `{}`", shortened(name)), hint)
    })
}

/// Holds an input against a task that is asked about it.
pub(super) fn check_fit(task: &TaskSpec, input: &Texts, number: usize) -> Result<(), ApiError> {
    let name = &task.name;
    match (task.is_pair(), input.pair.is_some()) {
        (true, false) => Err(ApiError::invalid(
            "no_pair",
            format!("input {number} is one text, and `{name}` is a task of pairs"),
            "give it as {\"text\": …, \"pair\": …}",
        )),
        (false, true) => Err(ApiError::invalid(
            "not_a_pair",
            format!("input {number} is a pair, and `{name}` is a task of single texts"),
            "leave out `pair`, or ask another task",
        )),
        _ => Ok(()),
    }
}
