//! The pages, and the document of the API.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use super::serve;

#[test]
fn the_openapi_document_is_as_it_was_and_names_only_what_it_has() {
    let server = serve(&[]);
    let document = server.get("/openapi.json").json();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"), "{document}");
    let text = document.to_string();
    for reference in text.split("\"#/components/schemas/").skip(1) {
        let name = reference.split('"').next().unwrap();
        assert!(document["components"]["schemas"].get(name).is_some(), "no shape `{name}`");
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/openapi.json");
    let shown = serde_json::to_string_pretty(&document).unwrap() + "\n";
    if std::env::var_os("BAM_UPDATE_FIXTURES").is_some() {
        fs::write(&path, &shown).unwrap();
    }
    assert_eq!(fs::read_to_string(&path).unwrap(), shown, "if it may differ: BAM_UPDATE_FIXTURES=1 writes it anew");
}

#[test]
fn pages_need_nothing_from_elsewhere() {
    let server = serve(&[]);
    for path in ["/", "/docs"] {
        let page = server.get(path);
        assert!(page.header("content-security-policy").unwrap().starts_with("default-src 'none'"));
        for elsewhere in ["http:", "https:", "src=\"", "@import", " url("] {
            assert!(!page.body.contains(elsewhere), "`{elsewhere}` in {path}");
        }
    }
}

#[test]
fn a_browser_shows_the_pages() {
    let Some(chromium) = ["chromium", "chromium-browser", "google-chrome"].into_iter().find(|name| {
        let found = Command::new(name).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        found.is_ok_and(|status| status.success())
    }) else {
        eprintln!("skipped: there is no Chromium to show the pages");
        return;
    };
    let server = serve(&[]);
    let show = |path: &str| {
        let profile = tempfile::tempdir().unwrap();
        let output = Command::new(chromium)
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=10000", "--dump-dom"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg(format!("http://{}{path}", server.address))
            .output()
            .expect("it starts");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let page = show("/");
    for text in ["acceptability", "sentiment", "similarity", "entailment", "up to 48 tokens"] {
        assert!(page.contains(text), "`{text}` in {page}");
    }
    assert!(!page.contains("class=\"card error\""), "{page}");
    let docs = show("/docs");
    for text in ["/v1/predict", "PredictRequest", "/metrics", "list of "] {
        assert!(docs.contains(text), "`{text}` in {docs}");
    }
}
