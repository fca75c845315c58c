//! What the job of a stage asks for.

use std::collections::BTreeMap;

use crate::profile::Settings;
use crate::span::Span;

#[derive(Clone, Debug)]
pub(super) struct Ask {
    pub(super) stage: String,
    pub(super) kind: String,
    pub(super) cpus: usize,
    pub(super) memory_bytes: u64,
    /// Whether that is more than a guess at any program, which may need far more.
    pub(super) is_memory_known: bool,
    pub(super) gpus: usize,
    /// The time that one job may take, where the pipeline file or the profile says so.
    pub(super) time: Option<Span>,
}

impl Ask {
    /// How long before that it is asked to end, if it is.
    pub(super) fn grace(&self, settings: &Settings) -> Option<Span> {
        settings.grace_of(&self.kind, self.time)
    }

    /// What is asked for, by name; but for memory, which may be what the stage took the last time.
    pub(super) fn request(&self, settings: &Settings) -> BTreeMap<String, String> {
        let partition = settings.limits.get(&self.kind).and_then(|limit| limit.partition.as_ref());
        let named = [
            ("cpus", Some(self.cpus.to_string())),
            ("gpus", Some(self.gpus.to_string())),
            ("time", self.time.map(|time| time.to_string())),
            ("partition", partition.or(settings.partition.as_ref()).cloned()),
            ("account", settings.account.clone()),
            ("qos", settings.qos.clone()),
        ];
        named
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value.unwrap_or_else(|| "by default".to_owned())))
            .collect()
    }

    pub(super) fn memory_mib(&self) -> u64 {
        self.memory_bytes.div_ceil(1 << 20).max(1)
    }
}
