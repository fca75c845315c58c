//! The page to try the model, and that of the API, as a browser shows them.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use serde_json::{Value, json};

use super::reload::copy_of_model;
use super::{serve, serve_in};
use crate::support::Sandbox;
use crate::support::browser::Browser;
use crate::support::http::Server;
use crate::support::model::{TEXTS_TASKS, exported};

fn open(browser: &Browser, server: &Server) {
    browser.open(&format!("http://{}/", server.address));
    browser.wait_until("document.querySelectorAll('#tasks input').length === 4");
}

/// Goes on by the Tab key until this has the focus.
fn tab_to(browser: &Browser, element: &str) {
    for _ in 0..20 {
        browser.press("Tab", false);
        if browser.value(&format!("document.activeElement === {element}")) == true {
            return;
        }
    }
    panic!("`{element}` can't be reached");
}

fn answered(browser: &Browser, inputs: usize) {
    browser.wait_until(&format!("at('status').textContent === '{inputs} answered'"));
}

/// What a shell makes of a line that begins with `curl`.
fn arguments(line: &str) -> Vec<String> {
    let script = "curl() { printf '%s\\0' \"$@\"; }; eval \"$1\"";
    let output = Command::new("sh").args(["-c", script, "sh", line]).output().expect("a shell starts");
    let said = String::from_utf8(output.stdout).expect("UTF-8");
    said.split_terminator('\0').map(ToOwned::to_owned).collect()
}

#[test]
fn the_page_answers_by_keyboard_what_the_api_answers() {
    let Some(browser) = Browser::start() else { return };
    let server = serve(&[]);
    open(&browser, &server);
    let fingerprint = exported().manifest("onnx")["fingerprint"].as_str().unwrap().to_owned();
    assert_eq!(browser.text("#model summary"), format!("onnx {}, up to 48 tokens", &fingerprint[..8]));

    tab_to(&browser, "document.querySelector('#model summary')");
    browser.press("Enter", false);
    browser.wait_until("at('model').open");
    assert!(browser.text("#model").contains(&fingerprint));
    tab_to(&browser, "document.querySelectorAll('#tasks input')[1]");
    browser.press(" ", false);
    tab_to(&browser, "at('text')");
    let text = format!("It's \"fine\" \\ $HOME `x`\nélan {}", "weather ".repeat(20));
    browser.press("a", true);
    browser.type_text(&text);
    browser.press("Enter", true);
    answered(&browser, 1);

    let result = &server.results(&json!(text), &TEXTS_TASKS)[0];
    // Bars in per cent of their tracks, as they are drawn.
    let tables = "[...document.querySelectorAll('article table')].map((table) => [...table.rows].map((row) => {
        const [bar, track] = ['.bar', '.track'].map((part) => row.querySelector(part).getBoundingClientRect());
        return [row.cells[0].innerText, track.width, 100 * bar.width / track.width, parseFloat(row.cells[2].innerText)];
    }))";
    let tables = browser.value(tables);
    for (table, task) in tables.as_array().unwrap().iter().zip(TEXTS_TASKS) {
        let labels = result["tasks"][task]["labels"].as_array().unwrap();
        assert_eq!(table.as_array().unwrap().len(), labels.len());
        for (row, label) in table.as_array().unwrap().iter().zip(labels) {
            assert_eq!(row[0], label["label"]);
            let percent = label["probability"].as_f64().unwrap() * 100.0;
            let [track, bar, number] = [1, 2, 3].map(|place| row[place].as_f64().unwrap());
            assert!(
                track > 100.0 && (bar - percent).abs() < 2.0 && (number - percent).abs() < 0.1,
                "{row} is not {label}"
            );
        }
    }
    assert_eq!(tables.as_array().unwrap().len(), 2);

    let cut = &server.post("/v1/tokenize", &json!({ "inputs": text })).json()["results"][0];
    let pieces: Vec<Value> =
        cut["text"].as_array().unwrap().iter().map(|piece| json!([piece["token"], piece["lost"]])).collect();
    let shown = "[...document.querySelectorAll('.pieces li')].map((item) =>
        [item.firstChild.textContent, item.className === 'lost' && item.textContent.endsWith(' (cut off)')])";
    assert_eq!(browser.value(shown), json!(pieces));
    assert_eq!(browser.text("article summary"), format!("48 tokens, {} cut off", cut["lost_tokens"]));
    assert_eq!(browser.value("document.querySelector('article details').open"), true);
    let timings = browser.text(".timings");
    assert!(
        timings.starts_with("word pieces ") && timings.contains(" · queue ") && timings.ends_with(" ms"),
        "{timings}"
    );

    let tasks = server.get("/v1/tasks").json();
    let shown = browser.value("[...document.querySelectorAll('#tasks small')].map((kind) => kind.innerText)");
    for (task, shown) in tasks["tasks"].as_array().unwrap().iter().zip(shown.as_array().unwrap()) {
        let (_, dev) = shown.as_str().unwrap().split_once(" · dev ").expect("dev scores");
        let scores = task["dev_scores"].as_object().unwrap();
        assert_eq!(dev.split(", ").count(), scores.len());
        for (told, (metric, value)) in dev.split(", ").zip(scores) {
            let percent: f64 = told.strip_prefix(&format!("{metric} ")).unwrap().parse().unwrap();
            assert!((percent - 100.0 * value.as_f64().unwrap()).abs() < 0.051, "{shown} of {task}");
        }
    }

    let arguments = arguments(&browser.text("pre"));
    let [header, kind, data, body, address] = &arguments[..] else { panic!("{arguments:?}") };
    assert_eq!([header, kind, data], ["-H", "content-type: application/json", "-d"]);
    assert_eq!(*address, format!("http://{}/v1/predict", server.address));
    let body: Value = serde_json::from_str(body).unwrap();
    assert_eq!(body, json!({ "inputs": [text], "tasks": TEXTS_TASKS }));
}

#[test]
fn the_page_asks_pairs_line_by_line_and_says_what_is_wrong() {
    let Some(browser) = Browser::start() else { return };
    let server = serve(&[]);
    open(&browser, &server);
    let choose = |task: usize| browser.value(&format!("document.querySelectorAll('#tasks input')[{task}].click()"));
    let chosen = || browser.value("[...document.querySelectorAll('#tasks input')].map((box) => box.checked)");
    let answer = || browser.value("document.querySelector('#form [type=submit]').click()");
    let says_error = |message: &str| {
        browser.wait_until(&format!("document.querySelector('.error strong')?.textContent === {}", json!(message)));
        assert!(browser.value("at('status').textContent").as_str().unwrap().starts_with(message));
    };
    choose(0);
    answer();
    says_error("no task is chosen");

    choose(1);
    assert_eq!(browser.value("at('second').hidden"), true);
    choose(2);
    choose(3);
    // Tasks of texts are not asked about pairs.
    assert_eq!((chosen(), browser.value("at('second').hidden")), (json!([false, false, true, true]), json!(false)));
    browser.value("at('lines').click(); at('text').value = 'one\\n\\ntwo'; at('pair').value = 'a'");
    answer();
    says_error("2 texts, but 1 second texts");
    browser.value("at('pair').value = 'a\\nb'");
    answer();
    answered(&browser, 2);
    let headings = browser.value("[...document.querySelectorAll('article h2')].map((heading) => heading.innerText)");
    assert_eq!(headings, json!(["1. one ⁄ a", "2. two ⁄ b"]));
    let result = &server.results(&json!([{ "text": "one", "pair": "a" }]), &["similarity"])[0];
    let value = result["tasks"]["similarity"]["value"].as_f64().unwrap();
    assert!((browser.text(".value").parse::<f64>().unwrap() - value).abs() < 0.002, "{}", browser.text(".value"));

    // Whatever can be used has a name for those who don't see it.
    let tree = browser.order("Accessibility.getFullAXTree", json!({}));
    let named = |node: &&Value| node["ignored"] == false && node["properties"].to_string().contains("\"focusable\"");
    let controls: Vec<[String; 2]> =
        tree["nodes"].as_array().unwrap().iter().filter(named).map(role_and_name).collect();
    for [role, name] in controls.iter().filter(|[role, _]| role != "RootWebArea") {
        assert!(!name.is_empty(), "a nameless {role} among {controls:?}");
    }
    for (role, name) in [("textbox", "Text"), ("textbox", "Second text"), ("button", "Answer"), ("button", "Copy")] {
        assert!(controls.contains(&[role, name].map(ToOwned::to_owned)), "no {role} `{name}` in {controls:?}");
    }
    assert_eq!(controls.iter().filter(|[role, _]| role == "checkbox").count(), 5);

    // Narrow, and dark.
    let colours =
        || browser.value("[document.body, at('form')].map((it) => getComputedStyle(it).backgroundColor).join()");
    let light = colours();
    browser.order(
        "Emulation.setEmulatedMedia",
        json!({ "features": [{ "name": "prefers-color-scheme", "value": "dark" }] }),
    );
    assert_ne!(colours(), light);
    browser.value("at('text').value = 'x'.repeat(500) + '\\nb'");
    answer();
    browser.wait_until("document.querySelector('article h2').innerText.startsWith('1. xxx')");
    let narrow = json!({ "width": 320, "height": 640, "deviceScaleFactor": 1, "mobile": true });
    browser.order("Emulation.setDeviceMetricsOverride", narrow);
    browser.wait_until("innerWidth === 320 && document.documentElement.scrollWidth <= 320");
}

fn role_and_name(node: &Value) -> [String; 2] {
    ["role", "name"].map(|field| node[field]["value"].as_str().unwrap_or_default().to_owned())
}

#[test]
fn the_page_asks_for_a_key_and_does_not_show_it() {
    let Some(browser) = Browser::start() else { return };
    exported().write("page-keys.txt", "page-key\n");
    let server = serve(&["--api-keys", "page-keys.txt"]);
    browser.open(&format!("http://{}/", server.address));
    browser.wait_until("document.querySelector('.error strong')?.textContent === 'this server asks for a key'");
    browser.wait_until("document.activeElement === at('key') && at('key').checkVisibility()");
    browser.type_text("page-kez");
    browser.press("Enter", false);
    browser.wait_until("document.querySelector('.error strong')?.textContent === 'the key is not known'");
    browser.press("a", true);
    browser.type_text("page-key");
    browser.press("Enter", false);
    answered(&browser, 1);
    assert_eq!(arguments(&browser.text("pre"))[2..4], ["-H", "authorization: Bearer KEY"]);
    assert!(!browser.text("body").contains("page-key"));
}

#[test]
fn the_line_can_be_copied_or_is_selected() {
    let Some(browser) = Browser::start() else { return };
    // By a name that isn't its own.
    let server = serve(&["--insecure"]);
    let port = server.address.port();
    let copy = || {
        browser.value("at('form').requestSubmit()");
        answered(&browser, 1);
        browser.value("document.querySelector('#answers button').click()");
        browser.wait_until("document.querySelector('#answers [role=status]').textContent !== ''");
        browser.text("#answers [role=status]")
    };
    open(&browser, &server);
    assert_eq!(copy(), "copied");
    browser.open(&format!("http://lan.test:{port}/"));
    browser.wait_until("location.hostname === 'lan.test' && document.querySelectorAll('#tasks input').length === 4");
    assert_eq!(browser.value("isSecureContext"), false);
    assert_eq!(copy(), "it can't be copied from here, but is selected: press Ctrl+C or ⌘C");
    assert_eq!(browser.value("getSelection().toString()"), browser.text("pre"));
}

#[test]
fn the_page_follows_a_newer_model() {
    let Some(browser) = Browser::start() else { return };
    let sandbox = Sandbox::new();
    let fingerprints = ["1", "2"].map(|digit| digit.repeat(64));
    for fingerprint in &fingerprints {
        copy_of_model(&sandbox.path(&fingerprint[..1]), fingerprint);
    }
    symlink("1", sandbox.path("model")).unwrap();
    let server = serve_in(&sandbox, &["model"]);
    open(&browser, &server);
    assert_eq!(browser.text("#model summary"), "model 11111111, up to 48 tokens");
    browser.value("document.querySelectorAll('#tasks input')[3].click()");
    symlink("2", sandbox.path("next")).unwrap();
    fs::rename(sandbox.path("next"), sandbox.path("model")).unwrap();
    server.wait_until("the newer one is served", || server.get("/v1/info").json()["model"] == fingerprints[1]);
    browser.value("at('form').requestSubmit()");
    browser.wait_until("document.querySelector('#model summary').innerText.startsWith('model 22222222')");
    let chosen = browser.value("[...document.querySelectorAll('#tasks input')].map((box) => box.checked)");
    assert_eq!((chosen, browser.value("at('second').hidden")), (json!([false, false, false, true]), json!(false)));
}

#[test]
fn the_page_gets_over_a_model_that_changes_while_it_asks() {
    let Some(browser) = Browser::start() else { return };
    let server = serve(&[]);
    open(&browser, &server);
    let submit = || browser.value("at('form').requestSubmit()");
    // As if the model had had another task when the page was loaded.
    browser.value("tasks[0].name = 'gone'");
    submit();
    browser.wait_until("document.querySelector('.error strong')?.textContent === 'the model has no task `gone`'");
    browser.wait_until("tasks[0].name === 'acceptability'");
    submit();
    answered(&browser, 1);

    // As if word pieces came from another model, so many times.
    let other = |times: usize| {
        let script = "{ const real = window.real ??= fetch; let left = TIMES; window.fetch = async (path, options) => {
            const response = await real(path, options);
            if (path !== 'v1/tokenize' || !left--) return response;
            return new Response(JSON.stringify({ ...await response.json(), model: 'another', results: [] }));
        } }";
        browser.value(&script.replace("TIMES", &times.to_string()))
    };
    other(1);
    submit();
    answered(&browser, 1);
    other(100);
    submit();
    browser.wait_until("document.querySelector('.error strong')?.textContent === 'the model was another each time'");
}

#[test]
fn the_api_can_be_read() {
    let Some(browser) = Browser::start() else { return };
    let server = serve(&[]);
    browser.open(&format!("http://{}/docs", server.address));
    browser.wait_until("document.querySelectorAll('#types article').length > 0");
    let page = browser.text("body");
    for text in
        ["/v1/predict", "PredictRequest", "/metrics", "list of ", "needs a key where the server has any", "retry-after"]
    {
        assert!(page.contains(text), "`{text}` in {page}");
    }
}
