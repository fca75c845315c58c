//! The drawing as one SVG file that needs nothing else, for light and dark pages.

use console::measure_text_width;

use super::Graph;
use super::layout::{BOX_HEIGHT, Line, Point, layout};

const MARGIN: f64 = 24.0;
const HEADING_HEIGHT: f64 = 52.0;
/// Of the widest monospaced font that a page may fall back to, at the sizes below.
const NAME_CHAR_WIDTH: f64 = 8.0;
const ABOUT_CHAR_WIDTH: f64 = 6.8;
const PADDING: f64 = 12.0;

/// Borders tell states apart by their kind too, and the text of each box says its state.
const STYLE: &str = "
  text { font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace; fill: #1f2328; }
  .heading { font-size: 16px; font-weight: 600; }
  .name { font-size: 13px; }
  .about { font-size: 11px; fill: #59636e; }
  .paper { fill: #ffffff; }
  .line { fill: none; stroke: #8c959f; stroke-width: 1.2; }
  .tip { fill: #8c959f; }
  .cached rect { fill: #f0f8f2; stroke: #1a7f37; stroke-width: 1.2; }
  .run rect { fill: #fff7e0; stroke: #9a6700; stroke-width: 2.4; }
  .mayrun rect { fill: #f1f7fe; stroke: #0969da; stroke-width: 1.4; stroke-dasharray: 5 4; }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3; }
    .about { fill: #9da7b1; }
    .paper { fill: #0d1117; }
    .line { stroke: #656c76; }
    .tip { fill: #656c76; }
    .cached rect { fill: #12241a; stroke: #3fb950; }
    .run rect { fill: #2b2211; stroke: #d29922; }
    .mayrun rect { fill: #10233c; stroke: #58a6ff; }
  }
";

pub(crate) fn svg(graph: &Graph) -> String {
    let abouts: Vec<String> = graph.nodes.iter().map(super::Node::about).collect();
    let text_width = |name: &str, about: &str| {
        let name = measure_text_width(name) as f64 * NAME_CHAR_WIDTH;
        name.max(measure_text_width(about) as f64 * ABOUT_CHAR_WIDTH) + 2.0 * PADDING
    };
    let needs: Vec<f64> = graph.nodes.iter().zip(&abouts).map(|(node, about)| text_width(&node.name, about)).collect();
    let (forward, backward): (Vec<_>, Vec<_>) = graph.edges.iter().partition(|(from, to)| from < to);
    let mut drawn = layout(&needs, &forward);
    // Lines of a file, unlike its stages, may read each other.
    for (from, to) in backward {
        let exit = Point { x: drawn.boxes[from].x + drawn.widths[from], ..drawn.boxes[from] };
        drawn.lines.push(Line { from: exit, to: drawn.boxes[to], arrow: true });
    }
    let summary = graph.summary();
    let heading_width = text_width(&graph.pipeline, &summary) * 1.25;
    let (width, height) = (drawn.width.max(heading_width) + 2.0 * MARGIN, drawn.height + HEADING_HEIGHT + 2.0 * MARGIN);
    let pipeline = escaped(&graph.pipeline);
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" width=\"{width:.0}\" \
         height=\"{height:.0}\" role=\"img\" aria-label=\"pipeline {pipeline}, {summary}\">\n<style>{STYLE}</style>\n\
         <defs><marker id=\"tip\" viewBox=\"0 0 8 8\" refX=\"8\" refY=\"4\" markerWidth=\"8\" markerHeight=\"8\" \
         orient=\"auto\" markerUnits=\"userSpaceOnUse\"><path class=\"tip\" d=\"M0 0.5 L8 4 L0 7.5 z\"/></marker></defs>\n\
         <rect class=\"paper\" width=\"100%\" height=\"100%\"/>\n\
         <text class=\"heading\" x=\"{MARGIN}\" y=\"{:.0}\">{pipeline}</text>\n\
         <text class=\"about\" x=\"{MARGIN}\" y=\"{:.0}\">{summary}</text>\n\
         <g transform=\"translate({MARGIN} {:.0})\">\n",
        MARGIN + 14.0,
        MARGIN + 34.0,
        MARGIN + HEADING_HEIGHT,
    );
    for line in &drawn.lines {
        let tip = if line.arrow { " marker-end=\"url(#tip)\"" } else { "" };
        text += &format!("<path class=\"line\" d=\"{}\"{tip}/>\n", line.curve());
    }
    for ((node, about), (at, width)) in graph.nodes.iter().zip(&abouts).zip(drawn.boxes.iter().zip(&drawn.widths)) {
        let (class, name) = (node.state().class(), escaped(&node.name));
        text += &format!(
            "<g class=\"{class}\"><title>{name}: {about}</title>\
             <rect x=\"{:.1}\" y=\"{:.1}\" width=\"{width:.1}\" height=\"{BOX_HEIGHT}\" rx=\"6\"/>\
             <text class=\"name\" x=\"{x:.1}\" y=\"{:.1}\">{name}</text>\
             <text class=\"about\" x=\"{x:.1}\" y=\"{:.1}\">{about}</text></g>\n",
            at.x,
            at.y - BOX_HEIGHT / 2.0,
            at.y - 3.0,
            at.y + 13.0,
            x = at.x + PADDING,
        );
    }
    text + "</g>\n</svg>\n"
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
