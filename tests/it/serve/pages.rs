//! The pages, and the document of the API.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

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
    assert_eq!(document["components"]["securitySchemes"]["key"]["scheme"], "bearer");
    let operations =
        document["paths"].as_object().unwrap().values().flat_map(|path| path.as_object().unwrap().values());
    for operation in operations {
        let asks_for_key = !operation["responses"]["401"].is_null();
        let security = if asks_for_key { json!([{}, { "key": [] }]) } else { Value::Null };
        assert_eq!(operation["security"], security, "{operation}");
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
