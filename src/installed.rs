//! What lies beside an installed `bam`: `bin/bam`, `lib/bam`, `share/bam`.

use std::path::PathBuf;

/// `share/bam`: encoders, pipelines, data, licences. None where `bam` is not installed.
pub(crate) fn share() -> Option<PathBuf> {
    let own = std::env::current_exe().ok()?;
    own.parent()?.parent()?.join("share/bam").canonicalize().ok()
}
