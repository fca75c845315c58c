//! The pipeline as a drawing: a box per family of stages, in layers from top to bottom.

use std::collections::{BTreeMap, BTreeSet};

use maud::{Markup, html};

use super::StageReport;
use crate::pipeline::family_of;
use crate::ui::units::duration;

const BOX_WIDTH: f64 = 164.0;
const BOX_HEIGHT: f64 = 50.0;
/// Room for an edge that passes a layer.
const LANE_WIDTH: f64 = 24.0;
const GAP: f64 = 14.0;
const LAYER_HEIGHT: f64 = 92.0;
/// Passes over the layers to bring what belongs together above each other.
const SWEEPS: usize = 4;

/// The stages of one name, whatever their axes.
struct Family {
    name: String,
    kind: &'static str,
    states: BTreeMap<String, usize>,
    secs: f64,
    reads: BTreeSet<usize>,
}

/// What takes up room in a layer: a family, or an edge that passes by.
#[derive(Clone, Copy, PartialEq)]
enum Item {
    Family(usize),
    Lane,
}

struct Node {
    item: Item,
    layer: usize,
    x: f64,
    above: Vec<usize>,
}

pub(super) fn draw(stages: &[StageReport]) -> Markup {
    let families = families(stages);
    let (mut nodes, edges) = layered(&families);
    let mut layers = by_layer(&nodes);
    for _ in 0..SWEEPS {
        place(&mut nodes, &mut layers);
    }
    let left = nodes.iter().map(|node| node.x - width(node) / 2.0).fold(f64::MAX, f64::min) - 4.0;
    let right = nodes.iter().map(|node| node.x + width(node) / 2.0).fold(f64::MIN, f64::max) + 4.0;
    let height = layers.len() as f64 * LAYER_HEIGHT - (LAYER_HEIGHT - BOX_HEIGHT) + 8.0;
    let view = format!("{left:.0} -4 {:.0} {height:.0}", right - left);
    let told = format!("Pipeline of {} families of stages; the table below has each stage", families.len());
    html! {
        svg.graph viewBox=(view) width=(format!("{:.0}", right - left)) role="img" aria-label=(told) {
            @for (from, to) in &edges {
                path.edge d=(curve(&nodes[*from], &nodes[*to])) {}
            }
            @for node in &nodes {
                @if let Item::Family(at) = node.item {
                    (boxed(&families[at], node.x - BOX_WIDTH / 2.0, node.layer as f64 * LAYER_HEIGHT))
                }
            }
        }
    }
}

fn boxed(family: &Family, x: f64, y: f64) -> Markup {
    let count: usize = family.states.values().sum();
    let name = if count > 1 { format!("{} ×{count}", family.name) } else { family.name.clone() };
    let states: Vec<String> = match family.states.iter().collect::<Vec<_>>().as_slice() {
        [(state, _)] => vec![(*state).clone()],
        several => several.iter().map(|(state, count)| format!("{count} {state}")).collect(),
    };
    let time = if family.secs > 0.0 { format!(" · {}", duration(family.secs)) } else { String::new() };
    let is_sound = family.states.keys().all(|state| ["current", "ran", "cached"].contains(&state.as_str()));
    html! {
        g class=(if is_sound { "box sound" } else { "box" }) transform=(format!("translate({x:.1} {y:.1})")) {
            rect width=(BOX_WIDTH) height=(BOX_HEIGHT) rx="6" {}
            text.name x="10" y="20" { (short(&name, 20)) }
            text.note x="10" y="38" { (short(&format!("{} · {}{time}", family.kind, states.join(", ")), 28)) }
            title { (name) ": " (family.kind) ", " (states.join(", ")) (time) }
        }
    }
}

fn short(text: &str, most: usize) -> String {
    if text.chars().count() <= most { text.to_owned() } else { text.chars().take(most - 1).chain(['…']).collect() }
}

fn families(stages: &[StageReport]) -> Vec<Family> {
    let mut families: Vec<Family> = Vec::new();
    let mut of_stage = Vec::new();
    for stage in stages {
        let name = family_of(&stage.name);
        // A family's members are of one kind, but nothing enforces it.
        let known = families.iter().position(|family| family.name == name && family.kind == stage.kind);
        let at = known.unwrap_or_else(|| {
            let (states, reads) = (BTreeMap::new(), BTreeSet::new());
            families.push(Family { name: name.to_owned(), kind: stage.kind, states, secs: 0.0, reads });
            families.len() - 1
        });
        of_stage.push(at);
        let family = &mut families[at];
        *family.states.entry(stage.state.clone()).or_default() += 1;
        family.secs += stage.manifest.as_ref().map_or(0.0, |manifest| manifest.provenance.wall_secs);
        family.reads.extend(stage.reads.iter().map(|read| of_stage[*read]).filter(|read| *read != at));
    }
    families
}

/// Each family a layer below all that it reads; an edge over several layers takes a lane in those between.
fn layered(families: &[Family]) -> (Vec<Node>, Vec<(usize, usize)>) {
    let mut layer = vec![0; families.len()];
    // Members of two families may read each other's; as many rounds as families settle what can be settled.
    for _ in 0..families.len() {
        for (at, family) in families.iter().enumerate() {
            let below = family.reads.iter().filter(|read| **read < at).map(|read| layer[*read] + 1).max();
            layer[at] = below.unwrap_or(0);
        }
    }
    let node = |item, layer| Node { item, layer, x: 0.0, above: Vec::new() };
    let mut nodes: Vec<Node> = layer.iter().enumerate().map(|(at, layer)| node(Item::Family(at), *layer)).collect();
    let mut edges = Vec::new();
    for (at, family) in families.iter().enumerate() {
        for read in family.reads.iter().filter(|read| layer[**read] < layer[at]) {
            let mut from = *read;
            for passed in layer[*read] + 1..layer[at] {
                nodes.push(node(Item::Lane, passed));
                let lane = nodes.len() - 1;
                nodes[lane].above.push(from);
                edges.push((from, lane));
                from = lane;
            }
            nodes[at].above.push(from);
            edges.push((from, at));
        }
    }
    (nodes, edges)
}

fn by_layer(nodes: &[Node]) -> Vec<Vec<usize>> {
    let count = nodes.iter().map(|node| node.layer + 1).max().unwrap_or(0);
    let in_layer = |layer: usize| (0..nodes.len()).filter(|at| nodes[*at].layer == layer).collect();
    (0..count).map(in_layer).collect()
}

/// Orders each layer by where the things above stand, and centres it.
fn place(nodes: &mut [Node], layers: &mut [Vec<usize>]) {
    for layer in layers {
        let above = |at: usize| {
            let above = &nodes[at].above;
            let sum: f64 = above.iter().map(|at| nodes[*at].x).sum();
            if above.is_empty() { nodes[at].x } else { sum / above.len() as f64 }
        };
        let mut order: Vec<(f64, usize)> = layer.iter().map(|at| (above(*at), *at)).collect();
        // Of equals boxes come first, so that lanes pass beside them.
        order.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        *layer = order.into_iter().map(|(_, at)| at).collect();
        let all: f64 = layer.iter().map(|at| width(&nodes[*at])).sum::<f64>() + GAP * (layer.len() - 1) as f64;
        let mut left = -all / 2.0;
        for at in layer.iter() {
            nodes[*at].x = left + width(&nodes[*at]) / 2.0;
            left += width(&nodes[*at]) + GAP;
        }
    }
}

fn width(node: &Node) -> f64 {
    if node.item == Item::Lane { LANE_WIDTH } else { BOX_WIDTH }
}

fn curve(from: &Node, to: &Node) -> String {
    let top = |node: &Node| node.layer as f64 * LAYER_HEIGHT;
    let start = top(from) + BOX_HEIGHT;
    let (end, middle) = (top(to), f64::midpoint(start, top(to)));
    // A lane is passed straight down.
    let passed = if from.item == Item::Lane { format!("M{:.1} {:.1} V", from.x, top(from)) } else { String::new() };
    let begin = if passed.is_empty() { format!("M{:.1} {start:.1}", from.x) } else { format!("{passed}{start:.1}") };
    format!("{begin} C{:.1} {middle:.1} {:.1} {middle:.1} {:.1} {end:.1}", from.x, to.x, to.x)
}
