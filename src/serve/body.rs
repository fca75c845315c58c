//! A request's body: JSON of a known shape, or an error that says where it isn't.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::http::{StatusCode, header};
use serde::de::DeserializeOwned;

use super::app::App;
use super::error::{ApiError, shortened};

/// So much is parsed where requests are accepted; more would keep others waiting.
const AT_ONCE_BYTES: usize = 16 << 10;

const SHAPES: &str = "`/docs` has the shape of each request";

#[derive(Debug)]
pub(super) struct Body<T>(pub(super) T);

impl<T: DeserializeOwned + Send + 'static> FromRequest<Arc<App>> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, ApiError> {
        // Asked for also because browsers let foreign pages send all but JSON without asking first.
        let content_type = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let media_type = content_type.unwrap_or_default().split(';').next().unwrap_or_default().trim();
        if !media_type.eq_ignore_ascii_case("application/json") {
            let message = match media_type {
                "" => "the body is not said to be JSON".to_owned(),
                other => format!("the body is said to be `{other}`, not JSON"),
            };
            let hint = "send the header `content-type: application/json`";
            return Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "not_json", message, hint));
        }
        if let Some(encoding) = request.headers().get(header::CONTENT_ENCODING).filter(|value| *value != "identity") {
            let message = format!("the body is encoded as `{}`", String::from_utf8_lossy(encoding.as_bytes()));
            let hint = "send it as it is, without the header `content-encoding`";
            return Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "encoded_body", message, hint));
        }
        let bytes = Bytes::from_request(request, app).await.map_err(|rejection| {
            if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
                let most = app.settings.max_body_bytes;
                let message = format!("the body is larger than {most} bytes");
                let hint = "send fewer inputs at a time; `--max-body` of `bam serve` is the bound";
                return ApiError::new(rejection.status(), "body_too_large", message, hint);
            }
            ApiError::new(StatusCode::BAD_REQUEST, "broken_body", rejection.body_text(), "send the body whole")
        })?;
        if bytes.len() <= AT_ONCE_BYTES {
            return parse(&bytes).map(Self);
        }
        let parsed = tokio::task::spawn_blocking(move || parse(&bytes)).await;
        parsed.map_err(|error| ApiError::internal(error.to_string()))?.map(Self)
    }
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    if bytes.trim_ascii_start().starts_with(b"[") {
        // serde would take a list for the fields in their order.
        return Err(ApiError::invalid("wrong_shape", "the body is a list, not an object", SHAPES));
    }
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let (path, cause) = (error.path().to_string(), error.inner());
        if cause.is_data() {
            // The place in the text helps nobody who wrote a program: the field does.
            let at = format!(" at line {} column {}", cause.line(), cause.column());
            let what = cause.to_string();
            let what = in_words_of_json(what.strip_suffix(&at).unwrap_or(&what));
            let place = if path == "." { String::new() } else { format!("`{}`: ", shortened(&path)) };
            return ApiError::invalid("wrong_shape", format!("{place}{what}"), SHAPES);
        }
        malformed(cause)
    })?;
    json.end().map_err(|error| malformed(&error))?;
    Ok(value)
}

/// serde names what there is, and what it expected, by Rust's types. Between them are the client's own words.
fn in_words_of_json(what: &str) -> String {
    let (is, expected) = what.rsplit_once(", expected ").unwrap_or((what, ""));
    let is = match is {
        "invalid type: sequence" => "invalid type: list".into(),
        "invalid type: map" => "invalid type: object".into(),
        other => shortened(other),
    };
    match expected {
        "" => is.into_owned(),
        "usize" => format!("{is}, expected a whole number"),
        "a sequence" => format!("{is}, expected a list"),
        "a map" => format!("{is}, expected an object"),
        other if other.starts_with("struct ") => format!("{is}, expected an object"),
        other => format!("{is}, expected {other}"),
    }
}

fn malformed(error: &serde_json::Error) -> ApiError {
    ApiError::new(
        StatusCode::BAD_REQUEST,
        "malformed_json",
        format!("the body is not JSON: {error}"),
        "check its syntax",
    )
}
