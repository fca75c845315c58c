//! ONNX without Python: a checkpoint as a graph, the graph as a file, and ONNX Runtime to run it.

pub(crate) mod bert;
pub(crate) mod graph;
pub(crate) mod proto;
pub(crate) mod session;

#[cfg(test)]
mod tests;
