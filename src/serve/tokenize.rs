//! `POST /v1/tokenize`.

use std::sync::Arc;

use anyhow::Result;
use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use bam_inference::model::OnnxModel;
use bam_inference::row::row;
use bam_inference::word_pieces::Piece;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::app::App;
use super::ask::{check_number, too_many_tokens, uncut};
use super::body::Body;
use super::cutting::Size;
use super::error::{ApiError, Refusals};
use super::inputs::{Inputs, Texts};

/// Of what is cut off a text, so much is listed: an answer must not be many times as large as its request.
const MOST_LOST: usize = 64;

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct TokenizeRequest {
    inputs: Inputs,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct TokenizeResponse {
    model: String,
    max_tokens: usize,
    results: Vec<Tokenized>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Tokenized {
    /// The row as the model gets it, special tokens included.
    input_ids: Vec<u32>,
    token_type_ids: Vec<u32>,
    lost_tokens: usize,
    /// Its pieces: all that the model gets, and the first 64 of those that are cut off.
    text: Vec<WordPiece>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pair: Option<Vec<WordPiece>>,
    /// Pieces of both that are cut off and not listed.
    unlisted: usize,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct WordPiece {
    id: u32,
    token: String,
    /// Its place in the text, in characters.
    start: usize,
    end: usize,
    /// Whether it was cut off to fit the model.
    lost: bool,
}

/// Show how texts are cut into word pieces, and what does not fit
#[utoipa::path(
    post,
    path = "/v1/tokenize",
    tag = "about",
    request_body = TokenizeRequest,
    responses((status = 200, body = TokenizeResponse), Refusals)
)]
pub(super) async fn tokenize(
    State(app): State<Arc<App>>,
    Body(request): Body<TokenizeRequest>,
) -> Result<impl IntoResponse, ApiError> {
    let engine = app.engine()?;
    let Inputs(inputs) = request.inputs;
    check_number(&app, inputs.len())?;
    let size = Size::of(&inputs);
    let (model, most) = (engine.model.clone(), app.settings.queue.queue_tokens);
    // The answer may be some megabytes: it is written there too.
    let (json, _) = app.cutting.cut(size, move || json(&model, &inputs, most)).await.map_err(uncut)?;
    let json = json.map_err(|error| ApiError::internal(format!("{error:#}")))?;
    let json = json.ok_or_else(|| too_many_tokens(&app))?;
    Ok(([(header::CONTENT_TYPE, "application/json")], json))
}

/// The answer; none where the rows have more tokens than `most`.
fn json(model: &OnnxModel, inputs: &[Texts], most: usize) -> Result<Option<Vec<u8>>> {
    let (mut results, mut tokens) = (Vec::new(), 0);
    for input in inputs {
        let tokenized = tokenized(model, input)?;
        tokens += tokenized.input_ids.len();
        if tokens > most {
            return Ok(None);
        }
        results.push(tokenized);
    }
    let (model, max_tokens) = (model.info.fingerprint.to_string(), model.info.max_tokens);
    Ok(Some(serde_json::to_vec(&TokenizeResponse { model, max_tokens, results })?))
}

fn tokenized(model: &OnnxModel, input: &Texts) -> Result<Tokenized> {
    let texts = [Some(input.text.as_str()), input.pair.as_deref()];
    let ids = model.word_pieces.encode(texts.into_iter().flatten())?;
    let row = row(&ids[0], ids.get(1).map(Vec::as_slice), model.info.max_tokens, &model.word_pieces);
    let listed =
        |text: &str, kept: usize| anyhow::Ok(word_pieces(model.word_pieces.pieces(text, kept + MOST_LOST)?, kept));
    let [kept_text, kept_pair] = row.kept;
    let text = listed(&input.text, kept_text)?;
    let pair = input.pair.as_ref().map(|pair| listed(pair, kept_pair)).transpose()?;
    let unlisted = ids.iter().map(Vec::len).sum::<usize>() - text.len() - pair.as_ref().map_or(0, Vec::len);
    Ok(Tokenized {
        input_ids: row.input_ids,
        token_type_ids: row.token_type_ids,
        lost_tokens: row.lost,
        text,
        pair,
        unlisted,
    })
}

fn word_pieces(pieces: Vec<Piece>, kept: usize) -> Vec<WordPiece> {
    let told = |(place, piece): (usize, Piece)| {
        let Piece { id, token, start, end } = piece;
        WordPiece { id, token, start, end, lost: place >= kept }
    };
    pieces.into_iter().enumerate().map(told).collect()
}
