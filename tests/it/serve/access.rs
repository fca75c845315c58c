//! Who may call, and from where.

use std::io::Write as _;

use super::{assert_error, serve};
use crate::support::Sandbox;
use crate::support::http::{Answer, Server};
use crate::support::model::exported;

#[test]
fn keys_are_asked_for_where_there_are_any() {
    exported().write("keys.txt", "# two\nfirst-key\nsecond-key\n");
    let server = serve(&["--api-keys", "keys.txt"]);
    let ask = |path: &str, header: &str| {
        let headers = [header];
        let headers = if header.is_empty() { &headers[..0] } else { &headers[..] };
        server.try_request("GET", path, headers, "").unwrap()
    };
    for (header, code) in [
        ("", "no_key"),
        ("authorization: Basic first-key", "no_key"),
        ("authorization: Bearer", "no_key"),
        ("authorization: Bearer first-ke", "unknown_key"),
        ("authorization: Bearer # two", "unknown_key"),
    ] {
        let answer = ask("/v1/tasks", header);
        assert_eq!((answer.status, answer.header("www-authenticate")), (401, Some("Bearer")), "{header}");
        assert_error(&answer, code);
    }
    for header in ["authorization: Bearer first-key", "Authorization: bearer second-key"] {
        assert_eq!(ask("/v1/tasks", header).status, 200);
    }
    assert_eq!(["/metrics", "/v1/info"].map(|path| ask(path, "").status), [401; 2]);
    assert_eq!(["/livez", "/readyz", "/", "/docs", "/openapi.json"].map(|path| ask(path, "").status), [200; 5]);
}

#[test]
fn a_hangup_has_the_keys_read_again_and_without_keys_ends_the_server_in_order() {
    let sandbox = exported();
    sandbox.write("turned-keys.txt", "old-key\n");
    let server = serve(&["--api-keys", "turned-keys.txt"]);
    let status = |key: &str| {
        server.try_request("GET", "/v1/tasks", &[&format!("authorization: Bearer {key}")], "").unwrap().status
    };
    sandbox.write("turned-keys.txt", "new-key\nother-key\n");
    assert_eq!(["old-key", "new-key"].map(status), [200, 401]);
    server.signal(libc::SIGHUP);
    server.wait_until_it_says("KEYS read again, 2 keys");
    assert_eq!(["old-key", "new-key"].map(status), [401, 200]);
    sandbox.write("turned-keys.txt", "");
    server.signal(libc::SIGHUP);
    server.wait_until_it_says("`turned-keys.txt` holds no key");
    assert_eq!(["old-key", "new-key"].map(status), [401, 200]);

    let server = serve(&[]);
    server.signal(libc::SIGHUP);
    let (status, said) = server.end();
    assert!(status.success() && said.contains("ENDED all that was accepted"), "{status}: {said}");
}

#[test]
fn names_of_addresses_are_resolved() {
    let server = Server::start(exported().command(&["serve", "--listen", "localhost:0"]));
    assert!(server.address.ip().is_loopback());
}

#[test]
fn a_model_that_is_not_there_is_told_with_what_is() {
    let sandbox = Sandbox::new();
    let folder = sandbox.path("artifacts").display().to_string();
    let said = sandbox.command(&["serve"]).output().unwrap();
    let said = String::from_utf8(said.stderr).unwrap();
    let told = format!(
        "error: no run in `{folder}` that ended well has exported a model yet that no stage refused\n\nhint: say `-C DIR` or `--artifacts DIR`"
    );
    assert!(said.starts_with(&told), "{said}");
}

#[test]
fn what_is_unsafe_or_wrong_is_refused_before_anything_listens() {
    let sandbox = exported();
    sandbox.write("no-keys.txt", "\n# none\n");
    sandbox.write("odd-keys.txt", "\u{feff}first\nsecond\n");
    for (args, error) in [
        (&["--listen", "0.0.0.0:0"][..], "`--listen 0.0.0.0:0` lets others in, and there are no keys"),
        (&["--listen", "[::]:0"], "`--listen [::]:0` lets others in, and there are no keys"),
        (&["--listen", ":8099"], "invalid value ':8099' for '--listen <ADDRESS>': it lacks the host: `127.0.0.1:8099`"),
        (&["--timeout", "0s"], "invalid value '<secs>' for '--timeout <TIME>': give a time above zero"),
        (&["--max-inputs", "0"], "invalid value '0' for '--max-inputs <N>': give a whole number from 1 to 4294967295"),
        (&["--threads", "1", "--sessions", "4"], "`--sessions 4` are more than there are threads: 1"),
        (&["--api-keys", "no-keys.txt"], "`no-keys.txt` holds no key"),
        (&["--api-keys", "odd-keys.txt"], "line 1 of `odd-keys.txt` is a key that no request can bring"),
        (&["--api-keys", "none.txt"], "the keys in `none.txt` can't be read"),
        (&["--cors", "example.org"], "`--cors example.org` is no origin"),
        (&["student"], "`student` is no exported model: it has no `model.onnx`"),
        (&["onyx"], "no artifact `onyx`"),
    ] {
        let said = sandbox.bam(&[&["serve"], args].concat());
        assert_eq!(said.code, 2, "{}", said.stderr);
        assert!(
            said.stderr.starts_with(&format!("error: {error}"))
                && (said.stderr.contains("\nhint: ") || error.starts_with("invalid value")),
            "{}",
            said.stderr
        );
    }
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let said = sandbox.bam(&["serve", "--listen", &taken.local_addr().unwrap().to_string()]);
    assert_eq!(said.code, 2);
    assert!(
        said.stderr.contains("can't listen on 127.0.0.1:") && said.stderr.contains("ddress already in use"),
        "{}",
        said.stderr
    );
}

#[test]
fn other_origins_may_call_only_where_they_are_named() {
    let preflight = |server: &Server, origin: &str| {
        let headers = [format!("origin: {origin}"), "access-control-request-method: POST".to_owned()];
        let headers: Vec<&str> = headers.iter().map(String::as_str).collect();
        server.try_request("OPTIONS", "/v1/predict", &headers, "").unwrap()
    };
    let allowed = |answer: &Answer| answer.header("access-control-allow-origin").map(ToOwned::to_owned);
    assert_eq!(allowed(&preflight(&serve(&[]), "https://one.example")), None);
    let server = serve(&["--cors", "https://one.example"]);
    assert_eq!(allowed(&preflight(&server, "https://one.example")).as_deref(), Some("https://one.example"));
    assert_eq!(allowed(&preflight(&server, "https://two.example")), None);
    let server = serve(&["--cors", "HTTPS://One.Example"]);
    assert_eq!(allowed(&preflight(&server, "https://one.example")).as_deref(), Some("https://one.example"));
}

#[test]
fn a_server_for_its_own_machine_is_called_by_its_own_names() {
    let by_name = |server: &Server, name: &str| {
        let mut stream = server.connect().unwrap();
        let request = format!("GET /v1/tasks HTTP/1.1\r\nhost: {name}\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        Answer::read(&mut stream).unwrap()
    };
    let server = serve(&[]);
    for name in ["localhost", "127.0.0.1:8080", "[::1]:80"] {
        assert_eq!(by_name(&server, name).status, 200, "{name}");
    }
    // A page of this name would be let read what comes back, were it made to lead here.
    let refused = by_name(&server, "rebound.example:8080");
    assert_eq!(refused.status, 421);
    assert_error(&refused, "foreign_host");
    exported().write("host-keys.txt", "a-key\n");
    assert_eq!(by_name(&serve(&["--api-keys", "host-keys.txt"]), "rebound.example").status, 401);
    assert_eq!(by_name(&serve(&["--insecure"]), "any.example").status, 200);
}
