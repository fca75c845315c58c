//! `bam verify`.

use std::process::ExitCode;

use anyhow::Result;
use bam_contract::digest::Fingerprint;
use bam_contract::fault::Fault;
use serde_json::json;

use super::show::find;
use crate::cli::VerifyArgs;
use crate::store::{Found, Store, read_manifest};
use crate::ui;
use crate::ui::units::{bytes, plural};

/// Reads all bytes of the artifacts named, or of all there are, and holds them against their manifests.
pub(super) fn verify(args: &VerifyArgs, store: &Store) -> Result<ExitCode> {
    let named: Vec<(String, Fingerprint)> = if args.named.is_empty() {
        store.names()
    } else {
        let manifests = args.named.iter().map(|named| Ok(find(named, store)?.1)).collect::<Result<Vec<_>>>()?;
        manifests.into_iter().map(|manifest| (manifest.key.kind, manifest.fingerprint)).collect()
    };
    let mut damaged = 0;
    let mut total_bytes = 0;
    for (kind, fingerprint) in &named {
        let (stage, how) = match store.verify(kind, *fingerprint) {
            Ok(Found::Sound(manifest)) => {
                total_bytes += manifest.files.values().map(|file| file.size_bytes).sum::<u64>();
                (Some(manifest.stage), None)
            }
            Ok(Found::Absent) => (None, Some("it is gone".to_owned())),
            Err(error) => (None, Some(format!("{error:#}"))),
            Ok(Found::Damaged(how)) => {
                let stage = read_manifest(&store.folder(kind, *fingerprint)).ok().map(|manifest| manifest.stage);
                (stage, Some(how))
            }
        };
        damaged += usize::from(how.is_some());
        if args.json {
            let sound = how.is_none();
            ui::json::line(&json!({
                "stage": stage, "kind": kind, "fingerprint": fingerprint, "sound": sound, "how": how,
            }));
        } else if let Some(how) = how {
            let stage = stage.unwrap_or_else(|| format!("unknown {kind} stage"));
            ui::data(&format!("{stage} ({}): {how}\n", fingerprint.short()));
        }
    }
    store.save_verified();
    if !args.json {
        let sound = plural(named.len() - damaged, "sound artifact");
        ui::data(&format!("{sound}, {damaged} damaged ({} read)\n", bytes(total_bytes)));
    }
    if damaged > 0 {
        let hint = "`bam run` moves aside what it needs and finds damaged, and makes it again; `bam gc` removes what is not needed";
        ui::error::tell(&Fault::new(format!("{} damaged", plural(damaged, "artifact")), hint).into());
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}
