//! What the job of a stage asks for.

use crate::profile::{Settings, Span};

#[derive(Clone, Debug)]
pub(super) struct Ask {
    pub(super) stage: String,
    pub(super) kind: String,
    pub(super) cpus: usize,
    pub(super) memory_bytes: u64,
    /// Whether that is more than a guess at any program, which may need far more.
    pub(super) is_memory_known: bool,
    pub(super) gpus: usize,
}

impl Ask {
    /// The time that one job may take, where the profile says so.
    pub(super) fn time(&self, settings: &Settings) -> Option<Span> {
        settings.limits.get(&self.kind)?.time
    }

    pub(super) fn memory_mib(&self) -> u64 {
        self.memory_bytes.div_ceil(1 << 20).max(1)
    }
}
