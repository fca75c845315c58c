//! A pipeline as a drawing: Mermaid, Graphviz, SVG, or JSON to draw it from.

mod layout;
mod svg;

use serde_json::json;

use super::units::{duration, plural};
pub(crate) use layout::{BOX_HEIGHT, Layout, layout};
pub(crate) use svg::svg;

/// Stages, each after those it reads, and which reads which.
#[derive(Debug, Default)]
pub(crate) struct Graph {
    pub(crate) pipeline: String,
    pub(crate) nodes: Vec<Node>,
    /// From a stage to one that reads it, by their indices.
    pub(crate) edges: Vec<(usize, usize)>,
}

/// A stage; or a line of the pipeline file, with all the stages that it stands for.
#[derive(Debug)]
pub(crate) struct Node {
    name: String,
    kind: &'static str,
    /// How many of its stages a run would find, run, or perhaps run.
    pub(crate) cached: usize,
    pub(crate) run: usize,
    pub(crate) may_run: usize,
    /// What its stages took when they last ran, all together.
    pub(crate) last_secs: Option<f64>,
}

/// How a node is drawn: by the state that asks for most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Cached,
    Run,
    MayRun,
}

impl State {
    /// A name for classes of styles.
    fn class(self) -> &'static str {
        match self {
            Self::Cached => "cached",
            Self::Run => "run",
            Self::MayRun => "mayrun",
        }
    }
}

impl Node {
    pub(crate) fn new(name: &str, kind: &'static str) -> Self {
        Self { name: name.to_owned(), kind, cached: 0, run: 0, may_run: 0, last_secs: None }
    }

    fn state(&self) -> State {
        match self {
            Self { run: 1.., .. } => State::Run,
            Self { may_run: 1.., .. } => State::MayRun,
            _ => State::Cached,
        }
    }

    /// `train · cached · 14.1s`, or, of several stages, `train · 3 cached, 2 run · 1m 02s`.
    fn about(&self) -> String {
        let one = self.cached + self.run + self.may_run == 1;
        let states = match self.state() {
            State::Cached if one => "cached".to_owned(),
            State::Run if one => "run".to_owned(),
            State::MayRun if one => "may run".to_owned(),
            _ => counts(self.cached, self.run, self.may_run),
        };
        let parts = [Some(self.kind.to_owned()), Some(states), self.last_secs.map(duration)];
        parts.into_iter().flatten().collect::<Vec<_>>().join(" · ")
    }
}

impl Graph {
    /// `23 stages: 20 cached, 1 run, 2 may run`.
    fn summary(&self) -> String {
        let sum = |of: fn(&Node) -> usize| self.nodes.iter().map(of).sum();
        let (cached, run, may_run) = (sum(|node| node.cached), sum(|node| node.run), sum(|node| node.may_run));
        format!("{}: {}", plural(cached + run + may_run, "stage"), counts(cached, run, may_run))
    }
}

fn counts(cached: usize, run: usize, may_run: usize) -> String {
    let of = |(count, state): (usize, &str)| (count > 0).then(|| format!("{count} {state}"));
    [(cached, "cached"), (run, "run"), (may_run, "may run")].into_iter().filter_map(of).collect::<Vec<_>>().join(", ")
}

/// Mermaid, which GitHub and many editors draw.
pub(crate) fn mermaid(graph: &Graph) -> String {
    let mut text = format!("%% {}, {}\nflowchart LR\n", one_line(&graph.pipeline), graph.summary());
    for (at, node) in graph.nodes.iter().enumerate() {
        let (name, about, class) = (mermaid_text(&node.name), node.about(), node.state().class());
        text += &format!("    s{at}[\"{name}<br/>{about}\"]:::{class}\n");
    }
    for (from, to) in &graph.edges {
        text += &format!("    s{from} --> s{to}\n");
    }
    text += "    classDef cached stroke:#1a7f37\n";
    text += "    classDef run stroke:#9a6700,stroke-width:3px\n";
    text += "    classDef mayrun stroke:#0969da,stroke-dasharray:5 4\n";
    text
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Characters that Mermaid takes for its own, as its entities.
fn mermaid_text(text: &str) -> String {
    let escaped = |c: char| match c {
        '"' => "#quot;".to_owned(),
        '#' | '&' | '<' | '>' | '`' => format!("#{};", u32::from(c)),
        c => c.to_string(),
    };
    one_line(text).chars().map(escaped).collect()
}

/// Graphviz, as `dot -Tpdf` takes it.
pub(crate) fn dot(graph: &Graph) -> String {
    let quoted = |text: &str| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
    let mut text = format!("// {}\ndigraph {} {{\n", graph.summary(), quoted(&graph.pipeline));
    text += "  rankdir=LR;\n  node [shape=box, fontname=\"monospace\", fontsize=11];\n";
    for node in &graph.nodes {
        let style = match node.state() {
            State::Cached => "solid",
            State::Run => "bold",
            State::MayRun => "dashed",
        };
        let label = format!("{}\\n{}", quoted(&node.name).trim_matches('"'), node.about());
        text += &format!("  {} [label=\"{label}\", style={style}];\n", quoted(&node.name));
    }
    for (from, to) in &graph.edges {
        text += &format!("  {} -> {};\n", quoted(&graph.nodes[*from].name), quoted(&graph.nodes[*to].name));
    }
    text + "}\n"
}

pub(crate) fn json(graph: &Graph) -> String {
    let stage = |node: &Node| {
        json!({
            "stage": node.name, "kind": node.kind, "cached": node.cached, "run": node.run, "may_run": node.may_run,
            "last_secs": node.last_secs,
        })
    };
    let edge = |(from, to): &(usize, usize)| json!({"from": graph.nodes[*from].name, "to": graph.nodes[*to].name});
    let value = json!({
        "pipeline": graph.pipeline,
        "stages": graph.nodes.iter().map(stage).collect::<Vec<_>>(),
        "edges": graph.edges.iter().map(edge).collect::<Vec<_>>(),
    });
    format!("{value}\n")
}
