//! Routes, and what surrounds every request: keys, a time limit, a count.

use std::any::Any;
use std::sync::Arc;

use anyhow::{Result, ensure};
use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, MatchedPath, Request, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bam_contract::fault::Fault;
use tokio::time::timeout;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::cors::{AllowOrigin, CorsLayer};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::app::App;
use super::counted::Counted;
use super::document;
use super::error::ApiError;
use super::{hosts, info, keys, pages, predict, tei, tokenize};

pub(super) fn router(app: &Arc<App>, origins: &[String]) -> Result<Router> {
    let guarded = OpenApiRouter::new()
        .routes(routes!(predict::predict))
        .routes(routes!(tei::tei_predict))
        .routes(routes!(tokenize::tokenize))
        .routes(routes!(info::tasks))
        .routes(routes!(info::info))
        .routes(routes!(info::metrics))
        .route_layer(from_fn_with_state(app.clone(), keys::check));
    let guarded = document::with_keys(guarded);
    let open = OpenApiRouter::new().routes(routes!(info::livez)).routes(routes!(info::readyz));
    let (router, document) =
        OpenApiRouter::with_openapi(document::begun()).merge(guarded).merge(open).split_for_parts();
    let document = Bytes::from(document.to_pretty_json()?);
    let document = move || std::future::ready(([(header::CONTENT_TYPE, "application/json")], document.clone()));
    let router = router
        .route("/", get(pages::try_it))
        .route("/docs", get(pages::docs))
        .route("/openapi.json", get(document))
        .fallback(not_found)
        .method_not_allowed_fallback(wrong_method)
        .layer(from_fn_with_state(app.clone(), hosts::check))
        .layer(DefaultBodyLimit::max(app.settings.max_body_bytes))
        .layer(CatchPanicLayer::custom(stumbled))
        .layer(from_fn_with_state(app.clone(), watch))
        .with_state(app.clone());
    Ok(if origins.is_empty() { router } else { router.layer(cors(origins)?) })
}

/// The answer to a request that made its handler panic.
fn stumbled(_: Box<dyn Any + Send>) -> Response {
    ApiError::internal("the request made the server stumble").into_response()
}

fn cors(origins: &[String]) -> Result<CorsLayer> {
    let mut allowed = Vec::new();
    for origin in origins {
        // As browsers write it.
        let written = origin.to_ascii_lowercase();
        let is_origin = written.starts_with("http://") || written.starts_with("https://");
        let value = HeaderValue::from_str(&written).ok().filter(|_| is_origin && origin.matches('/').count() == 2);
        ensure!(
            value.is_some(),
            Fault::new(
                format!("`--cors {origin}` is no origin"),
                "give scheme, host and port, such as `https://example.org`"
            )
        );
        allowed.extend(value);
    }
    let headers = [header::CONTENT_TYPE, header::AUTHORIZATION];
    Ok(CorsLayer::new()
        .allow_origin(AllowOrigin::list(allowed))
        .allow_methods([Method::GET, Method::POST])
        .allow_headers(headers)
        .expose_headers([header::RETRY_AFTER]))
}

/// Counts a request, and gives it up after a while: what is dropped then leaves the queue.
async fn watch(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().map_or("other", MatchedPath::as_str).to_owned();
    let mut counted = Counted::new(app.clone(), route);
    let response = timeout(app.settings.timeout, next.run(request)).await.unwrap_or_else(|_| {
        let message = format!("not answered within {:?}", app.settings.timeout);
        let hint = "send less at a time, or try again later";
        ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "timeout", message, hint).retry_after(1).into_response()
    });
    counted.status = response.status().as_u16();
    response
}

async fn not_found(request: Request) -> ApiError {
    let message = format!("there is no `{}`", request.uri().path());
    ApiError::new(StatusCode::NOT_FOUND, "not_found", message, "`/docs` lists what there is")
}

async fn wrong_method(request: Request) -> ApiError {
    let message = format!("`{}` does not take {}", request.uri().path(), request.method());
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "wrong_method", message, "`/docs` lists what there is")
}

#[cfg(test)]
mod tests {
    use hyper::service::Service as _;
    use hyper_util::service::TowerToHyperService;

    use super::*;

    async fn stumbles() -> &'static str {
        panic!("a mistake of the program's")
    }

    #[tokio::test]
    async fn a_panic_is_an_answer_and_the_server_goes_on() {
        let router = Router::new()
            .route("/", get(stumbles))
            .route("/sound", get(|| async { "sound" }))
            .layer(CatchPanicLayer::custom(stumbled));
        let service = TowerToHyperService::new(router);
        let status = async |path: &str| {
            let request = Request::builder().uri(path).body(axum::body::Body::empty()).unwrap();
            service.call(request).await.unwrap().status()
        };
        assert_eq!(status("/").await, StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(status("/sound").await, StatusCode::OK);
    }
}
