//! What the stages that make a model and the program that serves it must do alike: read rows, cut texts into word
//! pieces, pad, and run the exported graph.

pub mod answer;
pub mod model;
pub mod padding;
pub mod row;
pub mod rows;
mod segments;
pub mod session;
pub mod word_pieces;
mod words;
