//! `bam` from outside: the program is run in a folder of its own, and what it says and leaves is compared whole.
//!
//! One program for all, for each would be linked by itself.

mod agreement;
mod axes;
mod cluster;
mod columns;
mod end_to_end;
mod engine;
mod exec;
mod export;
mod gc;
mod graph;
mod hub;
mod include;
mod init;
mod judge;
mod memory;
mod mistakes;
mod one_pass;
mod predict;
mod recipes;
mod remote;
mod resources;
mod resume;
mod schema;
mod serve;
mod snapshots;
mod stopping;
mod store;
mod support;
mod tampering;
mod terminal;
mod trouble;
mod variants;
