//! `bam graph`.

use std::collections::{BTreeSet, HashMap};

use anyhow::Result;

use super::plan::decide;
use super::remote::remote;
use crate::cli::{GraphArgs, GraphFormat};
use crate::pipeline::Pipeline;
use crate::plan::{Decision, Plan};
use crate::store::Store;
use crate::ui;
use crate::ui::graph::{Graph, Node};

pub(super) fn graph(args: &GraphArgs, store: &Store) -> Result<()> {
    let pipeline = Pipeline::load(&args.source.pipeline, &args.source.overrides)?;
    // What is known of the remote tells what stages are; a drawing asks nothing of it.
    let remote = remote(&args.source.remote, &pipeline, true, store)?;
    let plan = decide(&pipeline, store, remote.as_ref(), BTreeSet::new())?;
    let graph = draw(&pipeline, &plan, args.folded);
    ui::data(&match args.format {
        GraphFormat::Mermaid => ui::graph::mermaid(&graph),
        GraphFormat::Dot => ui::graph::dot(&graph),
        GraphFormat::Svg => ui::graph::svg(&graph),
        GraphFormat::Json => ui::graph::json(&graph),
    });
    Ok(())
}

/// The stages, or, `folded`, the lines of the file that they were written in.
fn draw(pipeline: &Pipeline, plan: &Plan, folded: bool) -> Graph {
    let mut graph = Graph { pipeline: pipeline.name.clone(), ..Graph::default() };
    let mut nodes = HashMap::<&str, usize>::new();
    let mut node_of = Vec::new();
    for (at, stage) in pipeline.stages.iter().enumerate() {
        let name = if folded { stage.written() } else { &stage.name };
        let node = *nodes.entry(name).or_insert_with(|| {
            graph.nodes.push(Node::new(name, stage.spec.kind().name));
            graph.nodes.len() - 1
        });
        node_of.push(node);
        let Node { cached, run, may_run, last_secs, .. } = &mut graph.nodes[node];
        *match &plan.decisions[at] {
            Decision::Cached(_) | Decision::Remote { .. } => cached,
            Decision::Waits { reasons, .. } if reasons.is_empty() => may_run,
            Decision::Run { .. } | Decision::Waits { .. } => run,
        } += 1;
        if let Some(last) = plan.last[at] {
            *last_secs = Some(last_secs.unwrap_or_default() + last.secs);
        }
        for edge in &stage.inputs {
            let edge = (node_of[edge.stage], node);
            if edge.0 != edge.1 && !graph.edges.contains(&edge) {
                graph.edges.push(edge);
            }
        }
    }
    graph
}
