//! What stages took, and what they were made with.

use bam_contract::manifest::Manifest;
use maud::{Markup, html};
use serde_json::Value;

use super::super::Report;
use super::wide;
use crate::ui::units::{bytes, duration};

pub(super) fn cost(report: &Report) -> Markup {
    let made = || report.stages.iter().filter_map(|stage| Some((stage, stage.manifest.as_ref()?)));
    let total: f64 = made().map(|(_, manifest)| manifest.provenance.wall_secs).sum();
    let peak = made().map(|(_, manifest)| manifest.provenance.peak_memory_bytes).max().unwrap_or(0);
    let stored: u64 = made().flat_map(|(_, manifest)| manifest.files.values()).map(|file| file.size_bytes).sum();
    html! {
        p { "All artifacts took " (duration(total)) " of stages' time, " (bytes(peak)) " of memory at most, and take " (bytes(stored)) " on the disk." }
        (wide(&html! {
            table {
                thead { tr {
                    th scope="col" { "Stage" } th.num scope="col" { "Seconds" } th.num scope="col" { "Rows/s" } th.num scope="col" { "Peak memory" }
                    th.num scope="col" { "Size" } th.num scope="col" { "Threads" } th scope="col" { "Device" }
                } }
                tbody {
                    @for (stage, manifest) in made() {
                        @let made = &manifest.provenance;
                        tr {
                            th scope="row" { (stage.name) }
                            td.num { (format!("{:.1}", made.wall_secs)) }
                            td.num { @if let Some(rate) = rows_per_second(manifest) { (format!("{rate:.0}")) } }
                            td.num { (bytes(made.peak_memory_bytes)) }
                            td.num { (bytes(manifest.files.values().map(|file| file.size_bytes).sum())) }
                            td.num { (made.threads) } td { (made.device) }
                        }
                    }
                }
            }
        }))
    }
}

fn rows_per_second(manifest: &Manifest) -> Option<f64> {
    manifest.provenance.worker.get("rows_per_second")?.as_f64()
}

pub(super) fn provenance(report: &Report) -> Markup {
    html! {
        @for stage in &report.stages {
            @if let Some(manifest) = &stage.manifest {
                details {
                    summary { (stage.name) " " code { (manifest.fingerprint.short()) } }
                    dl { @for (name, value) in facts(manifest) { dt { (name) } dd { (value) } } }
                }
            }
        }
    }
}

fn facts(manifest: &Manifest) -> Vec<(String, String)> {
    let made = &manifest.provenance;
    let plain = |value: &Value| value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned);
    let mut facts: Vec<(String, String)> = [
        ("kind", format!("{}, version {}", manifest.key.kind, manifest.key.version)),
        ("fingerprint", manifest.fingerprint.to_string()),
        ("content", manifest.content.to_string()),
        ("finished", crate::ui::units::utc(made.finished_unix_secs)),
        ("host", made.host.clone()),
        ("device", format!("{}, {} threads", made.device, made.threads)),
        ("bam", made.bam_version.clone()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .to_vec();
    facts.extend(made.git_revision.clone().map(|revision| ("revision".to_owned(), revision)));
    facts.extend(made.worker.iter().map(|(name, value)| (name.replace('_', " "), plain(value))));
    let params = manifest.key.params.as_object().into_iter().flatten();
    facts.extend(params.map(|(name, value)| (format!("param {name}"), plain(value))));
    facts.extend(manifest.key.inputs.iter().map(|(slot, digest)| (format!("input {slot}"), digest.to_string())));
    facts.extend(manifest.key.external.iter().map(|(slot, digest)| (format!("file {slot}"), digest.to_string())));
    facts
}
