//! ONNX without Python: a checkpoint as a graph, and the graph as a file.

pub(crate) mod bert;
pub(crate) mod graph;
pub(crate) mod proto;

#[cfg(test)]
mod tests;
