//! The pages: one to try the model, one that renders `/openapi.json`. Both are files in the program and load nothing
//! from elsewhere, which their policy makes browsers enforce.

use axum::http::header;
use axum::response::{Html, IntoResponse};

const POLICY: &str = "default-src 'none'; connect-src 'self'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; \
                      img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

pub(super) async fn try_it() -> impl IntoResponse {
    page(include_str!("pages/try.html"))
}

pub(super) async fn docs() -> impl IntoResponse {
    page(include_str!("pages/docs.html"))
}

fn page(html: &'static str) -> impl IntoResponse {
    ([(header::CONTENT_SECURITY_POLICY, POLICY), (header::X_CONTENT_TYPE_OPTIONS, "nosniff")], Html(html))
}
