//! Profile files: their mistakes, and their schema.

use serde_json::Value;

use crate::support::{Sandbox, said};

#[test]
fn all_mistakes_of_a_profile_are_told_with_their_places() {
    let sandbox = Sandbox::with_small_pipeline();
    let profile = "\
executor: slrum
partitoin: gpu
max_jobs: 0
limits:
  trian: { cpus: 4 }
  train: { cpus: 0, time: 30s, memory: lots }
  exec: { time: 2m, grace: 2m }
setup: module load cuda
environment: { 1ST: x, GOOD: 5 }
options: [-p gpu, --wait]
poll: soon
";
    sandbox.write("cluster.yaml", profile);
    let said = sandbox.bam(&["run", "--profile", "cluster.yaml"]);
    assert_eq!(said.code, 2);
    insta::assert_snapshot!(said.stderr);
    sandbox.write(
        "cluster.yaml",
        "executor: slurm\nlimits:\n  trian: { cpus: 4 }\n  train: { cpus: 0, time: 30s }\n  \
         exec: { time: 2m, grace: 2m }\n  predict: { grace: 1m }\nscratch: local/bam\nenvironment: { 1ST: x }\noptions: [-p gpu, --wait]\nmax_jobs: 0\n",
    );
    let said = sandbox.bam(&["run", "--profile", "cluster.yaml"]);
    assert_eq!(said.code, 2);
    insta::assert_snapshot!(said.stderr);
    assert_eq!(sandbox.names_in("artifacts"), [""; 0], "nothing was run");
    sandbox.write("cluster.yaml", "limits: {}\n");
    let said = sandbox.bam(&["run", "--profile", "cluster.yaml"]);
    let missing = "error: missing parameter `executor` in the profile\n";
    assert!(
        said.stderr.starts_with(missing) && said.stderr.contains("hint: known: slurm, command\n"),
        "{}",
        said.stderr
    );
    let said = sandbox.bam(&["run", "--profile", "none.yaml"]);
    assert_eq!((said.code, said.stderr.lines().next()), (2, Some("error: profile `none.yaml` does not exist")));
    sandbox.write("cluster.yaml", "executor: [");
    let said = sandbox.bam(&["run", "--profile", "cluster.yaml"]);
    assert!(said.stderr.starts_with("error: not YAML: "), "{}", said.stderr);
}

#[test]
fn the_schema_names_every_entry() {
    let said = Sandbox::new().bam(&["schema", "--profile"]);
    let schema: Value = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!(schema["additionalProperties"], false);
    assert_eq!(schema["required"], serde_json::json!(["executor"]));
    let entries = schema["properties"].as_object().unwrap();
    for (name, entry) in entries {
        assert!(entry.get("description").is_some() || entry.get("$ref").is_some(), "{name}: {entry}");
    }
    let kinds = entries["limits"]["properties"].as_object().unwrap();
    assert!(kinds.contains_key("train") && kinds.contains_key("exec"));
    let described = |entry: &Value| entry.get("description").is_some();
    assert_eq!(kinds["exec"].get("properties"), None);
    assert_eq!(kinds["score"]["properties"], serde_json::json!({"grace": false}), "it keeps no state");
    assert!(schema["$defs"]["Limit"]["properties"].as_object().unwrap().values().all(described));
}

#[test]
fn the_profiles_of_the_documents_have_no_mistakes() {
    let docs = include_str!("../../../docs/cluster.md");
    let profiles: Vec<&str> = docs.split("```yaml\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert_eq!(profiles.len(), 3);
    let sandbox = Sandbox::with_small_pipeline();
    for (profile, program) in profiles.iter().zip(["sbatch", "tsp", "qsub"]) {
        sandbox.write("cluster.yaml", profile);
        let mut command = sandbox.command(&["run", "--profile", "cluster.yaml"]);
        let said = said(command.env("PATH", sandbox.path("none")));
        assert!(said.stderr.starts_with(&format!("error: `{program}` is not on the `PATH`")), "{}", said.stderr);
    }
}
