//! Errors as clients read them: `{"error": {"code", "message", "hint"}}`.

use std::borrow::Cow;

use anyhow::anyhow;
use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::{IntoResponses, ToSchema};

use crate::ui::error::warn;

/// What a client wrote is told again in so many characters: an answer must not be many times as large as its request.
const MOST_TOLD: usize = 200;

#[derive(Debug)]
pub(super) struct ApiError {
    status: StatusCode,
    code: &'static str,
    message: String,
    hint: String,
    retry_after_secs: Option<u64>,
}

/// What every answer but a success holds.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ErrorBody {
    error: ErrorDetail,
}

#[derive(Debug, Serialize, ToSchema)]
struct ErrorDetail {
    /// For programs; it stays as it is.
    #[schema(example = "unknown_task")]
    code: &'static str,
    /// For people.
    #[schema(example = "the model has no task `sentimnt`")]
    message: String,
    #[schema(example = "did you mean `sentiment`?")]
    hint: String,
}

/// What may be wrong with any request that has a body.
#[derive(IntoResponses)]
#[allow(dead_code, reason = "only the document is made from it")]
pub(super) enum Refusals {
    #[response(status = 400, description = "the body is no JSON")]
    Malformed(ErrorBody),
    #[response(status = 401, description = "a key is needed")]
    NoKey(ErrorBody),
    #[response(status = 413, description = "too many inputs, tokens or bytes")]
    TooLarge(ErrorBody),
    #[response(status = 415, description = "the body is not said to be JSON, or is compressed")]
    NotJson(ErrorBody),
    #[response(status = 421, description = "the `host` is not one that the server goes by")]
    ForeignHost(ErrorBody),
    #[response(status = 422, description = "well-formed, but not to be answered")]
    Invalid(ErrorBody),
    #[response(
        status = 429,
        description = "too much waits already; `retry-after` says for how long",
        headers(("retry-after" = u64, description = "seconds"))
    )]
    Busy(ErrorBody),
    #[response(status = 500, description = "a fault of the server or the model")]
    Internal(ErrorBody),
    #[response(
        status = 503,
        description = "not ready, or it took too long",
        headers(("retry-after" = u64, description = "seconds"))
    )]
    NotReady(ErrorBody),
}

/// A client's own words, as far as they are told again.
pub(super) fn shortened(text: &str) -> Cow<'_, str> {
    match text.char_indices().nth(MOST_TOLD) {
        Some((end, _)) => format!("{}…", &text[..end]).into(),
        None => text.into(),
    }
}

impl ApiError {
    pub(super) fn new(
        status: StatusCode,
        code: &'static str,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        Self { status, code, message: message.into(), hint: hint.into(), retry_after_secs: None }
    }

    /// What is asked for can't be answered, well-formed though it is.
    pub(super) fn invalid(code: &'static str, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, code, message, hint)
    }

    pub(super) fn not_ready(message: impl Into<String>) -> Self {
        let error = Self::new(StatusCode::SERVICE_UNAVAILABLE, "not_ready", message, "ask `/readyz` until it says so");
        error.retry_after(1)
    }

    pub(super) fn internal(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", message, "this is a fault of the server")
    }

    pub(super) fn retry_after(mut self, seconds: u64) -> Self {
        self.retry_after_secs = Some(seconds);
        self
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        if self.status == StatusCode::INTERNAL_SERVER_ERROR {
            warn(&anyhow!("a request failed by the server's fault: {}", self.message));
        }
        let body = ErrorBody { error: ErrorDetail { code: self.code, message: self.message, hint: self.hint } };
        let mut response = (self.status, Json(body)).into_response();
        if let Some(seconds) = self.retry_after_secs {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}
