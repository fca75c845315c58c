//! Where the boxes and lines of a layered drawing go, from left to right, after Sugiyama.
//!
//! A box stands one layer after the last that it reads. A line that passes layers by has a *bend* in each; all lines from
//! one box share their bends, so that they part as late as they can. Layers are ordered by barycenters so that few lines
//! cross, and their heights settle where lines are straight.

use std::collections::{BTreeMap, BTreeSet};

pub(crate) const BOX_HEIGHT: f64 = 44.0;
const BEND_HEIGHT: f64 = 4.0;
const ROW_GAP: f64 = 16.0;
const LAYER_GAP: f64 = 64.0;
const ORDER_SWEEPS: usize = 12;
const HEIGHT_SWEEPS: usize = 16;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Point {
    pub(crate) x: f64,
    pub(crate) y: f64,
}

/// Boxes by their middle left, and lines between them.
#[derive(Debug, Default)]
pub(crate) struct Layout {
    pub(crate) boxes: Vec<Point>,
    /// Width of each box; all of a layer have the same.
    pub(crate) widths: Vec<f64>,
    pub(crate) lines: Vec<Line>,
    pub(crate) width: f64,
    pub(crate) height: f64,
}

/// From one layer to the next, or straight through a layer.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) from: Point,
    pub(crate) to: Point,
    /// Whether it ends at a box.
    pub(crate) arrow: bool,
}

impl Line {
    /// As an SVG path that leaves and arrives level.
    pub(crate) fn curve(&self) -> String {
        let (Point { x, y }, to) = (self.from, self.to);
        let half = f64::midpoint(x, to.x);
        format!("M{x:.1} {y:.1} C{half:.1} {y:.1} {half:.1} {:.1} {:.1} {:.1}", to.y, to.x, to.y)
    }
}

/// A box, or a bend.
struct Item {
    layer: usize,
    is_box: bool,
    y: f64,
    before: Vec<usize>,
    after: Vec<usize>,
}

/// Lays boxes out, each of which has the width that its text needs; edges go from a box to a later one.
pub(crate) fn layout(widths: &[f64], edges: &[(usize, usize)]) -> Layout {
    let mut items = boxes(widths.len(), edges);
    add_bends(&mut items, edges);
    let mut layers = layers(&items);
    order(&mut layers, &items);
    settle(&layers, &mut items);
    draw(widths, &layers, &items)
}

/// Boxes in the earliest layer that they can stand in.
fn boxes(count: usize, edges: &[(usize, usize)]) -> Vec<Item> {
    let mut layer = vec![0; count];
    for to in 0..count {
        let reads = edges.iter().filter(|edge| edge.1 == to);
        layer[to] = reads.map(|edge| layer[edge.0] + 1).max().unwrap_or(0);
    }
    let item = |layer| Item { layer, is_box: true, y: 0.0, before: Vec::new(), after: Vec::new() };
    layer.into_iter().map(item).collect()
}

/// Links boxes through bends in the layers between them.
fn add_bends(items: &mut Vec<Item>, edges: &[(usize, usize)]) {
    let mut bends = BTreeMap::<(usize, usize), usize>::new();
    let mut links = BTreeSet::new();
    for (from, to) in edges {
        let mut last = *from;
        for layer in items[*from].layer + 1..items[*to].layer {
            let bend = *bends.entry((*from, layer)).or_insert(items.len());
            if bend == items.len() {
                items.push(Item { layer, is_box: false, y: 0.0, before: Vec::new(), after: Vec::new() });
            }
            links.insert((last, bend));
            last = bend;
        }
        links.insert((last, *to));
    }
    for (from, to) in links {
        items[from].after.push(to);
        items[to].before.push(from);
    }
}

fn layers(items: &[Item]) -> Vec<Vec<usize>> {
    let mut layers = vec![Vec::new(); items.iter().map(|item| item.layer + 1).max().unwrap_or(0)];
    for (at, item) in items.iter().enumerate() {
        layers[item.layer].push(at);
    }
    layers
}

/// Orders each layer by the middle of what its items are linked to, forth and back; the best order wins.
fn order(layers: &mut Vec<Vec<usize>>, items: &[Item]) {
    let mut best = (crossings(layers, items), layers.clone());
    for sweep in 0..ORDER_SWEEPS {
        let forth = sweep % 2 == 0;
        let mut turn: Vec<usize> = (0..layers.len()).collect();
        if !forth {
            turn.reverse();
        }
        for layer in turn {
            let position = positions(layers, items.len());
            let middle = |at: &usize| {
                let linked = if forth { &items[*at].before } else { &items[*at].after };
                mean(linked.iter().map(|other| position[*other])).unwrap_or(position[*at])
            };
            layers[layer].sort_by(|a, b| middle(a).total_cmp(&middle(b)));
        }
        let now = crossings(layers, items);
        if now < best.0 {
            best = (now, layers.clone());
        }
    }
    *layers = best.1;
}

/// Each item's place in its layer, from 0 to 1.
fn positions(layers: &[Vec<usize>], count: usize) -> Vec<f64> {
    let mut position = vec![0.0; count];
    for layer in layers {
        for (place, at) in layer.iter().enumerate() {
            position[*at] = (place as f64 + 0.5) / layer.len() as f64;
        }
    }
    position
}

fn crossings(layers: &[Vec<usize>], items: &[Item]) -> usize {
    let position = positions(layers, items.len());
    let of_layer = |layer: &Vec<usize>| {
        let links: Vec<(f64, f64)> =
            layer.iter().flat_map(|at| items[*at].after.iter().map(|to| (position[*at], position[*to]))).collect();
        let cross = |(a, b): &(f64, f64), (c, d): &(f64, f64)| (a - c) * (b - d) < 0.0;
        (0..links.len()).map(|one| links[..one].iter().filter(|other| cross(&links[one], other)).count()).sum::<usize>()
    };
    layers.iter().map(of_layer).sum()
}

/// Moves items up and down, in their order, towards what they are linked to.
fn settle(layers: &[Vec<usize>], items: &mut [Item]) {
    for sweep in 0..HEIGHT_SWEEPS {
        let mut turn: Vec<&Vec<usize>> = layers.iter().collect();
        if sweep % 2 == 1 {
            turn.reverse();
        }
        for layer in turn {
            let wish = |at: &usize| {
                let item = &items[*at];
                let linked = item.before.iter().chain(&item.after).map(|other| items[*other].y);
                mean(linked).unwrap_or(item.y)
            };
            let wishes: Vec<f64> = layer.iter().map(wish).collect();
            let heights: Vec<f64> =
                layer.iter().map(|at| if items[*at].is_box { BOX_HEIGHT } else { BEND_HEIGHT }).collect();
            for (at, y) in layer.iter().zip(spread(&wishes, &heights)) {
                items[*at].y = y;
            }
        }
    }
    let top = |item: &Item| item.y - if item.is_box { BOX_HEIGHT } else { BEND_HEIGHT } / 2.0;
    let least = items.iter().map(top).fold(f64::INFINITY, f64::min);
    for item in items {
        item.y -= least;
    }
}

/// Middles that are nearest to those wished for, by least squares, with all gaps kept: once the heights above each item
/// are taken off, that is the nearest ascending sequence, which pooling neighbours that violate the order gives.
fn spread(wishes: &[f64], heights: &[f64]) -> Vec<f64> {
    let mut offsets = vec![0.0; wishes.len()];
    for at in 1..wishes.len() {
        offsets[at] = offsets[at - 1] + f64::midpoint(heights[at - 1], heights[at]) + ROW_GAP;
    }
    let mut pools: Vec<(f64, usize)> = Vec::new();
    for (wish, offset) in wishes.iter().zip(&offsets) {
        let mut pool = (wish - offset, 1);
        while let Some(above) = pools.pop_if(|above| above.0 > pool.0) {
            let count = above.1 + pool.1;
            pool = ((above.0 * above.1 as f64 + pool.0 * pool.1 as f64) / count as f64, count);
        }
        pools.push(pool);
    }
    let pooled = pools.into_iter().flat_map(|(level, count)| std::iter::repeat_n(level, count));
    pooled.zip(offsets).map(|(level, offset)| level + offset).collect()
}

fn draw(widths: &[f64], layers: &[Vec<usize>], items: &[Item]) -> Layout {
    let mut left = vec![0.0; items.len()];
    let mut width = vec![0.0; items.len()];
    let mut edge = 0.0;
    for layer in layers {
        let widest = layer.iter().filter_map(|at| widths.get(*at)).copied().fold(0.0, f64::max);
        for at in layer {
            (left[*at], width[*at]) = (edge, widest);
        }
        edge += widest + LAYER_GAP;
    }
    let mut drawn = Layout { width: (edge - LAYER_GAP).max(0.0), ..Layout::default() };
    for (at, item) in items.iter().enumerate() {
        let (entry, exit) = (Point { x: left[at], y: item.y }, Point { x: left[at] + width[at], y: item.y });
        if item.is_box {
            drawn.boxes.push(entry);
            drawn.widths.push(width[at]);
            drawn.height = drawn.height.max(item.y + BOX_HEIGHT / 2.0);
        } else {
            drawn.lines.push(Line { from: entry, to: exit, arrow: false });
            drawn.height = drawn.height.max(item.y + BEND_HEIGHT / 2.0);
        }
        for to in &item.after {
            let target = Point { x: left[*to], y: items[*to].y };
            drawn.lines.push(Line { from: exit, to: target, arrow: items[*to].is_box });
        }
    }
    drawn
}

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, count) = values.fold((0.0, 0_usize), |(sum, count), value| (sum + value, count + 1));
    (count > 0).then(|| sum / count as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn wishes_are_met_as_far_as_gaps_allow() {
        assert_eq!(spread(&[10.0, 200.0], &[40.0, 40.0]), [10.0, 200.0]);
        assert_eq!(spread(&[100.0, 100.0], &[40.0, 40.0]), [72.0, 128.0]);
    }

    proptest! {
        #[test]
        fn boxes_keep_apart_and_lines_go_forward(
            reads in proptest::collection::vec(proptest::collection::vec(any::<prop::sample::Index>(), 0..4), 1..25),
        ) {
            let mut edges = Vec::new();
            for (to, reads) in reads.iter().enumerate().skip(1) {
                edges.extend(reads.iter().map(|from| (from.index(to), to)));
            }
            let drawn = layout(&vec![100.0; reads.len()], &edges);
            prop_assert_eq!(drawn.boxes.len(), reads.len());
            for (one, a) in drawn.boxes.iter().enumerate() {
                prop_assert!(a.y >= BOX_HEIGHT / 2.0 - 1e-6 && a.y <= drawn.height);
                for b in &drawn.boxes[..one] {
                    prop_assert!(a.x != b.x || (a.y - b.y).abs() >= BOX_HEIGHT + ROW_GAP - 1e-6);
                }
            }
            for (from, to) in &edges {
                prop_assert!(drawn.boxes[*from].x < drawn.boxes[*to].x);
            }
            prop_assert!(drawn.lines.iter().all(|line| line.from.x <= line.to.x));
        }
    }
}
