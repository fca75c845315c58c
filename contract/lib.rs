//! The words both sides speak: `bam` (how stages are run) and `bam-stages` (what can be computed)
//! depend on this crate and never on each other.

pub mod artifact;
pub mod digest;
pub mod event;
pub mod external;
pub mod fault;
pub mod job;
pub mod manifest;
pub mod metric;
pub mod resample;
pub mod stage;
pub mod task;
pub mod tasks;
