//! The pipeline as a drawing: a box per family of stages, in layers from left to right.

use std::collections::{BTreeMap, BTreeSet};

use maud::{Markup, html};

use super::StageReport;
use crate::pipeline::family_of;
use crate::ui::graph::{BOX_HEIGHT, Layout, layout};
use crate::ui::units::duration;

const BOX_WIDTH: f64 = 186.0;
const MARGIN: f64 = 4.0;

/// The stages of one name, whatever their axes.
struct Family {
    name: String,
    kind: &'static str,
    states: BTreeMap<String, usize>,
    secs: f64,
    reads: BTreeSet<usize>,
}

pub(super) fn draw(stages: &[StageReport]) -> Markup {
    let families = families(stages);
    let reads = |at: usize| families[at].reads.iter().filter(move |read| **read < at).map(move |read| (*read, at));
    let edges: Vec<(usize, usize)> = (0..families.len()).flat_map(reads).collect();
    let Layout { boxes, lines, width, height, .. } = layout(&vec![BOX_WIDTH; families.len()], &edges);
    let (width, height) = (format!("{:.0}", width + 2.0 * MARGIN), format!("{:.0}", height + 2.0 * MARGIN));
    let told = format!("Pipeline of {} families of stages; the table below has each stage", families.len());
    html! {
        svg.graph viewBox=(format!("-{MARGIN} -{MARGIN} {width} {height}")) width=(width) height=(height) role="img" aria-label=(told) {
            @for line in &lines { path.edge d=(line.curve()) {} }
            @for (family, at) in families.iter().zip(&boxes) { (boxed(family, at.x, at.y - BOX_HEIGHT / 2.0)) }
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
            text.name x="10" y="18" { (short(&name, 22)) }
            text.note x="10" y="35" { (short(&format!("{} · {}{time}", family.kind, states.join(", ")), 30)) }
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
