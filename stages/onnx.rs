//! ONNX without Python: a checkpoint as a graph, and the graph as a file.

pub(crate) mod bert;
pub(crate) mod graph;
pub(crate) mod proto;
mod weight;

#[cfg(test)]
pub(crate) mod fixture;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod variant_tests;
