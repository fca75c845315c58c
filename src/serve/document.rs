//! What the document of the API says beside the routes, which are read from their handlers.

use utoipa::OpenApi;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};
use utoipa_axum::router::OpenApiRouter;

const KEY: &str = "key";

#[derive(OpenApi)]
#[openapi(
    info(
        title = "bam serve",
        description = "One encoder with a head per task: texts and pairs of texts in, labels and values out.",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    tags(
        (name = "predict", description = "Answers"),
        (name = "about", description = "The model"),
        (name = "health", description = "The server"),
    )
)]
struct Document;

/// The document without routes.
pub(super) fn begun() -> utoipa::openapi::OpenApi {
    let mut document = Document::openapi();
    let mut scheme = Http::new(HttpAuthScheme::Bearer);
    scheme.description = Some("one of the server's keys, where it has any".to_owned());
    document.components.get_or_insert_default().add_security_scheme(KEY, SecurityScheme::Http(scheme));
    document
}

/// Says of all routes so far that a key may be asked for. Whether it is depends on the server, and the document doesn't.
pub(super) fn with_keys<S: Clone + Send + Sync + 'static>(mut router: OpenApiRouter<S>) -> OpenApiRouter<S> {
    for path in router.get_openapi_mut().paths.paths.values_mut() {
        for operation in [&mut path.get, &mut path.post].into_iter().flatten() {
            operation.security = Some(vec![SecurityRequirement::default(), SecurityRequirement::new(KEY, [""; 0])]);
        }
    }
    router
}
