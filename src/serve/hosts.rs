//! By which names the server may be called.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;

use super::app::App;
use super::error::ApiError;

/// Lets a request through that calls this machine by its own name, where the server is for this machine alone and asks for no
/// key. A page from elsewhere, whose name was made to lead here, calls it by that name (DNS rebinding).
pub(super) async fn check(State(app): State<Arc<App>>, request: Request, next: Next) -> Result<Response, ApiError> {
    if app.settings.is_for_this_machine && !is_own_name(request.headers()) {
        let message = "the server is for its own machine, and was called by another name";
        let hint = "call it as `localhost`, or start it with `--api-keys FILE` or `--insecure`";
        return Err(ApiError::new(StatusCode::MISDIRECTED_REQUEST, "foreign_host", message, hint));
    }
    Ok(next.run(request).await)
}

/// A request that names no host is none of a browser's.
fn is_own_name(headers: &HeaderMap) -> bool {
    headers.get_all(header::HOST).iter().all(|host| {
        let host = host.to_str().ok().and_then(|host| host.parse::<Authority>().ok());
        host.is_some_and(|host| {
            let name = host.host().trim_start_matches('[').trim_end_matches(']');
            name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
        })
    })
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn own_names_are_those_that_lead_to_no_other_machine() {
        let is_own =
            |host: &'static str| is_own_name(&HeaderMap::from_iter([(header::HOST, HeaderValue::from_static(host))]));
        for host in ["localhost", "LocalHost:8080", "127.0.0.1", "127.0.0.1:80", "127.1.2.3:1", "[::1]", "[::1]:8080"] {
            assert!(is_own(host), "{host}");
        }
        for host in ["", "evil.example", "localhost.evil.example:8080", "127.0.0.1.evil.example", "10.0.0.1", "[::2]:1"]
        {
            assert!(!is_own(host), "{host}");
        }
        assert!(is_own_name(&HeaderMap::new()));
    }
}
