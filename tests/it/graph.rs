//! `bam graph`: stages, how they stand, and which reads which.

use crate::support::Sandbox;
use serde_json::Value;

/// A pipeline of which a part has run, and then changed.
fn sandbox() -> Sandbox {
    let sandbox = Sandbox::with_small_pipeline();
    sandbox.bam(&["run"]);
    sandbox.edit("pipeline.yaml", "encoder: $encoder, epochs: 6", "encoder: $encoder, epochs: 7");
    sandbox
}

#[test]
fn mermaid() {
    let said = sandbox().bam(&["graph", "--folded"]);
    assert_eq!((said.code, said.stderr.as_str()), (0, ""));
    assert_eq!(
        said.stdout,
        "\
%% small, 11 stages: 8 cached, 1 run, 2 may run
flowchart LR
    s0[\"examples@task<br/>data · 2 cached · <secs>\"]:::cached
    s1[\"tokens@task<br/>tokenize · 2 cached · <secs>\"]:::cached
    s2[\"teacher@task<br/>train · 2 cached · <secs>\"]:::cached
    s3[\"predictions@task<br/>predict · 2 cached · <secs>\"]:::cached
    s4[\"student<br/>train · run · <secs>\"]:::run
    s5[\"onnx<br/>export · may run · <secs>\"]:::mayrun
    s6[\"scores<br/>score · may run · <secs>\"]:::mayrun
    s0 --> s1
    s1 --> s2
    s2 --> s3
    s1 --> s3
    s1 --> s4
    s3 --> s4
    s4 --> s5
    s2 --> s6
    s4 --> s6
    s5 --> s6
    s1 --> s6
    classDef cached stroke:#1a7f37
    classDef run stroke:#9a6700,stroke-width:3px
    classDef mayrun stroke:#0969da,stroke-dasharray:5 4
"
    );
}

#[test]
fn graphviz_of_stages_that_never_ran() {
    let sandbox = Sandbox::with_fake_worker();
    sandbox.write(
        "pipeline.yaml",
        "name: 'a \"b\"'\nstages:\n  x: { data: { task: sentiment, grammar: { train: 5, dev: 5 } } }\n  \
         t: { tokenize: { examples: x, encoder: enc } }\n",
    );
    assert_eq!(
        sandbox.bam(&["graph", "--format", "dot"]).stdout,
        "\
// 2 stages: 2 run
digraph \"a \\\"b\\\"\" {
  rankdir=LR;
  node [shape=box, fontname=\"monospace\", fontsize=11];
  \"x\" [label=\"x\\ndata · run\", style=bold];
  \"t\" [label=\"t\\ntokenize · run\", style=bold];
  \"x\" -> \"t\";
}
"
    );
}

#[test]
fn json() {
    // Not as it is redacted: times are numbers here.
    let output = sandbox().command(&["graph", "--format", "json"]).output().expect("bam starts");
    let graph: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(graph["pipeline"], "small");
    let stages = graph["stages"].as_array().expect("a list");
    let student = stages.iter().find(|stage| stage["stage"] == "student").expect("a stage");
    assert_eq!((&student["kind"], &student["cached"], &student["run"]), (&"train".into(), &0.into(), &1.into()));
    assert!(student["last_secs"].is_f64());
    assert!(graph["edges"].as_array().expect("a list").contains(&serde_json::json!({"from": "onnx", "to": "scores"})));
}

#[test]
fn svg_says_in_words_what_colours_say() {
    let sandbox = sandbox();
    sandbox.edit("pipeline.yaml", "name: small", "name: <small> & \"more\"");
    let said = sandbox.bam(&["graph", "--format", "svg"]);
    assert_eq!((said.code, said.stderr.as_str()), (0, ""));
    let svg = said.stdout;
    assert!(svg.starts_with("<svg xmlns=\"http://www.w3.org/2000/svg\""), "{svg}");
    assert!(svg.contains("&lt;small&gt; &amp; &quot;more&quot;"), "{svg}");
    assert!(svg.contains("11 stages: 8 cached, 1 run, 2 may run"), "{svg}");
    assert!(svg.contains("@media (prefers-color-scheme: dark)"), "{svg}");
    // All elements are closed, and nothing is fetched.
    for element in ["svg", "g", "text", "title", "style", "marker"] {
        let opened = svg.matches(&format!("<{element} ")).count() + svg.matches(&format!("<{element}>")).count();
        assert_eq!(opened, svg.matches(&format!("</{element}>")).count(), "{element}");
    }
    assert_eq!(svg.matches("http").count(), 1, "only the name space");
    // A state stands in the text of each box.
    let boxes: Vec<&str> = svg.lines().filter(|line| line.contains("<rect x=")).collect();
    assert_eq!(boxes.len(), 11);
    for line in boxes {
        let (class, words) = ["cached", "run", "mayrun"]
            .into_iter()
            .zip(["cached", "run", "may run"])
            .find(|(class, _)| line.starts_with(&format!("<g class=\"{class}\">")))
            .expect("a class");
        assert!(line.contains(&format!("· {words} ·")), "{class}: {line}");
    }
}
