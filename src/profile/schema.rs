//! A JSON Schema of profiles, for editors, made of the struct that they are read into.

use bam_contract::stage::KINDS;
use schemars::generate::SchemaSettings;
use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::{Map, Value, json};

use super::{KEEP_STATE, Limit, Settings};
use crate::pipeline::drop_formats;

/// The schema, in draft 2020-12.
pub(crate) fn schema() -> Value {
    let mut schema = json!(SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<Settings>());
    schema["title"] = json!("bam profile");
    schema["description"] = json!("Where the stages of a pipeline run, and what each kind of them is given there.");
    drop_formats(&mut schema);
    schema
}

/// By stage kind.
pub(super) fn limits(generator: &mut SchemaGenerator) -> Schema {
    let limit = generator.subschema_for::<Limit>();
    let of = |kind: &str| {
        let mut limit = json!(limit);
        if !KEEP_STATE.contains(&kind) {
            limit["properties"] = json!({ "grace": false });
        }
        limit
    };
    let kinds: Map<String, Value> = KINDS.iter().map(|kind| (kind.name.to_owned(), of(kind.name))).collect();
    json_schema!({
        "type": "object",
        "description": "What a stage of a kind is given where the pipeline file doesn't say.",
        "additionalProperties": false,
        "properties": kinds,
    })
}

/// A size as people write it.
pub(super) fn size(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": ["string", "integer", "null"], "minimum": 0, "examples": ["2GiB"] })
}
