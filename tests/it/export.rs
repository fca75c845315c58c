//! `bam export k8s`: the Jobs, and what becomes of the pipeline when their calls are made.

use std::collections::BTreeSet;
use std::fs;

use regex::Regex;
use serde::Deserialize as _;
use serde_json::{Value, json};

use crate::support::{Said, Sandbox};

const WHERE: [&str; 6] = ["export", "k8s", "--image", "registry.example/bam:1", "--claim", "bert"];

fn export(sandbox: &Sandbox, args: &[&str]) -> Said {
    sandbox.bam(&[&WHERE, args].concat())
}

/// The Jobs of each file in `k8s/`, in order.
fn waves(sandbox: &Sandbox) -> Vec<Vec<Value>> {
    let read = |name: String| {
        let text = sandbox.read(&format!("k8s/{name}"));
        let documents = serde_yaml::Deserializer::from_str(&text);
        documents.map(|document| Value::deserialize(document).expect("YAML")).collect()
    };
    sandbox.names_in("k8s").into_iter().map(read).collect()
}

fn stage(job: &Value) -> &str {
    job["metadata"]["annotations"]["bam/stage"].as_str().expect("the stage's name")
}

fn name(job: &Value) -> &str {
    job["metadata"]["name"].as_str().expect("a name")
}

fn container(job: &Value) -> &Value {
    &job["spec"]["template"]["spec"]["containers"][0]
}

/// The words of the container's call, as Kubernetes gives them to it.
fn call(job: &Value) -> Vec<String> {
    let words = container(job)["command"].as_array().expect("a list");
    words.iter().map(|word| word.as_str().expect("text").replace("$$", "$")).collect()
}

fn stages(waves: &[Vec<Value>]) -> Vec<Vec<&str>> {
    waves.iter().map(|jobs| jobs.iter().map(stage).collect()).collect()
}

#[test]
fn a_wave_waits_for_none_but_earlier_ones_and_its_calls_make_their_stages() {
    let sandbox = Sandbox::with_small_pipeline();
    assert_eq!(export(&sandbox, &[]).code, 0);
    let waves = waves(&sandbox);
    assert_eq!(
        stages(&waves),
        [
            &["examples@sentiment", "examples@entailment"][..],
            &["tokens@sentiment", "tokens@entailment"],
            &["teacher@sentiment", "teacher@entailment"],
            &["predictions@sentiment", "predictions@entailment"],
            &["student"],
            &["onnx"],
            &["scores"],
        ]
    );
    for (at, jobs) in waves.iter().enumerate() {
        for job in jobs {
            assert_eq!(job["metadata"]["labels"]["bam/wave"], format!("{:02}", at + 1));
            let call = call(job);
            assert_eq!(call[0], "bam");
            let said = sandbox.bam(&call[1..]);
            assert_eq!((said.code, said.stages("RAN")), (0, vec![stage(job).to_owned()]), "{}", said.stderr);
            // A pod that is started again has nothing left to do.
            assert_eq!(sandbox.bam(&call[1..]).stages("RAN"), [""; 0]);
        }
    }
    assert_eq!(sandbox.bam(&["run"]).stages("RAN"), [""; 0]);
}

#[test]
fn what_is_cached_is_left_out_and_old_files_go() {
    let sandbox = Sandbox::with_small_pipeline();
    export(&sandbox, &[]);
    let before = waves(&sandbox).concat();
    sandbox.write("k8s/wave-notes.yaml", "mine");
    sandbox.bam(&["run", "pipeline.yaml", "predictions"]);
    let said = export(&sandbox, &[]);
    assert!(
        said.stderr.starts_with("wrote 3 jobs in 3 waves to `k8s`, untested on a live cluster; 8 stages left out"),
        "{}",
        said.stderr
    );
    assert_eq!(sandbox.names_in("k8s"), ["wave-01.yaml", "wave-02.yaml", "wave-03.yaml", "wave-notes.yaml"]);
    fs::remove_file(sandbox.path("k8s/wave-notes.yaml")).unwrap();
    assert_eq!(stages(&waves(&sandbox)), [["student"], ["onnx"], ["scores"]]);

    assert_eq!(export(&sandbox, &["pipeline.yaml", "student"]).code, 0);
    assert_eq!(stages(&waves(&sandbox)), [["student"]]);

    sandbox.bam(&["run"]);
    let said = export(&sandbox, &[]);
    assert_eq!(
        (said.code, said.stderr.as_str()),
        (0, "nothing to run: 11 stages, all there; `--all` makes jobs for them too\n")
    );
    assert_eq!(sandbox.names_in("k8s"), [""; 0]);

    assert_eq!(export(&sandbox, &["--all"]).code, 0);
    let all = waves(&sandbox);
    assert_eq!((all.len(), all.concat().len()), (7, 11));
    // A stage whose inputs were there has the Job that it had.
    assert_eq!(all[0].iter().map(name).collect::<Vec<_>>(), before[..2].iter().map(name).collect::<Vec<_>>());
}

#[test]
fn names_are_legal_and_no_two_are_alike() {
    let sandbox = Sandbox::with_fake_worker();
    let long = "long".repeat(30);
    sandbox.write(
        "pipeline.yaml",
        &format!(
            "name: 'Größe: \"7B\"\n  {long}'\nfor: {{ x: [a.b, a-b, A_B, '$(HOME) $$', {long}, {long}2, 教師, '-'] }}\nstages:\n  \
             -_Own@x: {{ exec: {{ run: [sh, own.sh], params: {{ x: $x }} }} }}\n  \
             表: {{ exec: {{ run: [sh, own.sh], params: {{ x: y }} }} }}\n"
        ),
    );
    sandbox.write("own.sh", "exit 0");
    let said = export(&sandbox, &[]);
    assert_eq!(said.code, 0, "{}", said.stderr);
    let jobs = waves(&sandbox).concat();
    assert_eq!(jobs.len(), 9);
    let legal = Regex::new("^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$").unwrap();
    let value = Regex::new("^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$").unwrap();
    for job in &jobs {
        assert!(legal.is_match(name(job)), "{job}");
        for labels in [&job["metadata"]["labels"], &job["spec"]["template"]["metadata"]["labels"]] {
            for (_, label) in labels.as_object().unwrap() {
                assert!(value.is_match(label.as_str().unwrap()), "{label}");
            }
        }
        // The true name reaches `bam`, though it begins with `-` and holds what Kubernetes would replace.
        let planned = sandbox.bam(&[&["plan".to_owned()], &call(job)[call(job).len() - 3..]].concat());
        assert!(planned.stdout.contains(&format!("\n{}  ", stage(job))), "{}: {planned:?}", stage(job));
    }
    assert_eq!(jobs.iter().map(name).collect::<BTreeSet<_>>().len(), 9);
    assert!(jobs.iter().any(|job| stage(job) == "-_Own@$(HOME) $$"));
}

#[test]
fn a_job_has_another_name_when_it_is_another() {
    let sandbox = Sandbox::with_small_pipeline();
    let names = |args: &[&str]| {
        assert_eq!(export(&sandbox, args).code, 0);
        waves(&sandbox).concat().iter().map(|job| name(job).to_owned()).collect::<Vec<_>>()
    };
    let first = names(&[]);
    assert_eq!(names(&[]), first);
    // A parameter of the student: it, and all that is made from it, though their calls are as they were.
    sandbox.edit("pipeline.yaml", "epochs: 6", "epochs: 7");
    let edited = names(&[]);
    let same: Vec<bool> = first.iter().zip(&edited).map(|(first, edited)| first == edited).collect();
    assert_eq!(same, [true, true, true, true, true, true, true, true, false, false, false]);
    // An existing Job can't be changed, so what is in another place or tried more often is another one.
    for args in [["--mount-path", "/mnt/x"], ["--retries", "9"]] {
        assert!(names(&args).iter().zip(&edited).all(|(name, before)| name != before));
    }
}

#[test]
fn a_container_has_what_its_stage_needs() {
    let sandbox = Sandbox::with_small_pipeline();
    sandbox.edit("pipeline.yaml", "epochs: 6 } }", "epochs: 6 }, resources: { threads: 3, memory: 5GB, gpus: 0.5 } }");
    sandbox.write(
        "cluster.yaml",
        "executor: slurm\ngrace: 5m\nenvironment: { HF_HOME: /project/$hf }\nlimits:\n  \
         train: { time: 4h, cpus: 8, memory: 32GiB, gpus: 2 }\n  score: { time: 10m, cpus: 2 }\n",
    );
    assert_eq!(export(&sandbox, &["--profile", "cluster.yaml"]).code, 0);
    let jobs = waves(&sandbox).concat();
    let of = |wanted: &str| jobs.iter().find(|job| stage(job) == wanted).unwrap();
    let resources = |wanted: &str| {
        let resources = &container(of(wanted))["resources"];
        assert_eq!(resources["limits"], resources["requests"]);
        resources["limits"].clone()
    };
    let options = |wanted: &str| call(of(wanted))[2..].join(" ");
    assert_eq!(resources("teacher@sentiment"), json!({"cpu": "8", "memory": "32768Mi", "nvidia.com/gpu": "2"}));
    assert_eq!(
        options("teacher@sentiment"),
        "--threads=8 --set=resources.train.threads=8 pipeline.yaml teacher@sentiment"
    );
    // The stage's own come first; a share of a GPU is one.
    assert_eq!(resources("student"), json!({"cpu": "3", "memory": "4769Mi", "nvidia.com/gpu": "1"}));
    assert_eq!(options("student"), "--threads=3 pipeline.yaml student");
    assert_eq!(resources("examples@sentiment"), json!({"cpu": "1", "memory": "256Mi"}));
    assert_eq!(options("examples@sentiment"), "--threads=1 --device=cpu pipeline.yaml examples@sentiment");

    // A training is asked in time, and goes on in another pod; what keeps no state fails at its limit.
    let deadlines = |wanted: &str| {
        let spec = &of(wanted)["spec"];
        (spec["activeDeadlineSeconds"].as_u64(), spec["template"]["spec"]["activeDeadlineSeconds"].as_u64())
    };
    assert_eq!(deadlines("student"), (None, Some(4 * 3600 - 300)));
    assert_eq!(deadlines("scores"), (Some(600), None));
    assert_eq!(deadlines("onnx"), (None, None));
    for job in &jobs {
        let pod = &job["spec"]["template"]["spec"];
        assert_eq!((&pod["terminationGracePeriodSeconds"], &pod["restartPolicy"]), (&json!(300), &json!("Never")));
        assert_eq!(job["spec"]["backoffLimit"], 3);
        assert_eq!(container(job)["env"], json!([{"name": "HF_HOME", "value": "/project/$$hf"}]));
    }
    // Another store, another value and a part of the volume reach the containers.
    let args =
        ["--set", "vars.max_tokens=96", "--artifacts", "made/store", "--sub-path", "bert", "--mount-path", "/mnt/x"];
    assert_eq!(export(&sandbox, &args).code, 0);
    let job = &waves(&sandbox)[0][0];
    let words = ["run", "--artifacts=made/store", "--set=vars.max_tokens=96", "--threads=1", "--device=cpu"];
    assert_eq!(call(job)[1..6], words);
    assert_eq!(container(job)["workingDir"], "/mnt/x");
    assert_eq!(container(job)["volumeMounts"], json!([{"mountPath": "/mnt/x", "name": "project", "subPath": "bert"}]));
}

#[test]
fn a_program_has_all_of_its_time_unless_its_limits_say_otherwise() {
    let sandbox = Sandbox::new();
    sandbox.write("pipeline.yaml", "stages: { own: { exec: { run: [sh, -c, 'true'] } } }\n");
    let spec = |limits: &str| {
        sandbox.write("cluster.yaml", &format!("executor: slurm\nlimits: {{ exec: {{ {limits} }} }}\n"));
        assert_eq!(export(&sandbox, &["--profile", "cluster.yaml"]).code, 0);
        waves(&sandbox)[0][0]["spec"].clone()
    };
    let limits = |spec: &Value| {
        let pod = &spec["template"]["spec"];
        let secs =
            [&spec["activeDeadlineSeconds"], &pod["activeDeadlineSeconds"], &pod["terminationGracePeriodSeconds"]];
        secs.map(Value::as_u64)
    };
    let whole = spec("time: 1h");
    assert_eq!(limits(&whole), [Some(3600), None, Some(120)]);
    let resources = &whole["template"]["spec"]["containers"][0]["resources"];
    assert_eq!(resources["limits"], json!({"cpu": "1"}), "of its memory nothing is known");
    assert_eq!(limits(&spec("time: 1h, grace: 10m")), [None, Some(3000), Some(600)]);
}

#[test]
fn mistakes_are_told() {
    let sandbox = Sandbox::with_small_pipeline();
    let told = |args: &[&str]| {
        let said = sandbox.bam(args);
        assert_eq!((said.code, said.stdout.as_str()), (2, ""), "{args:?}");
        said.stderr
    };
    let stderr = told(&["export", "k8s", "--claim", "bert"]);
    assert!(stderr.contains("required arguments") && stderr.contains("--image <IMAGE>"), "{stderr}");
    let stderr = told(&[&WHERE[..4], &["--claim", "My_Claim"]].concat());
    assert!(stderr.contains("'My_Claim' for '--claim <PVC>': give small letters and digits"), "{stderr}");
    let stderr = told(&[&WHERE[..], &["--namespace", "a.b"]].concat());
    assert!(stderr.contains("'a.b' for '--namespace <NAME>': give at most 63 small letters"), "{stderr}");
    assert_eq!(
        told(&[&WHERE[..], &["pipeline.yaml", "studnet"]].concat()),
        "error: `pipeline.yaml` has no stage `studnet`\n\nhint: did you mean `student`?\n"
    );
    sandbox.write("inner/x", "");
    let stderr = told(&[&WHERE[..], &["-C", "inner", "../pipeline.yaml", "--set", "vars.encoder=../enc"]].concat());
    assert!(stderr.starts_with("error: the pipeline file, `") && stderr.contains("does not lie below `"), "{stderr}");
    assert_eq!(sandbox.names_in("k8s"), [""; 0]);
    // A file that is somebody's own stays.
    sandbox.write("k8s/wave-01.yaml", "mine");
    let stderr = told(&WHERE);
    assert!(stderr.starts_with("error: writing `k8s/wave-01.yaml`\n  caused by: File exists"), "{stderr}");
    assert_eq!(sandbox.read("k8s/wave-01.yaml"), "mine");
}

#[test]
fn files_outside_of_the_volume_are_told() {
    let sandbox = Sandbox::with_small_pipeline();
    let elsewhere = Sandbox::with_fake_worker();
    let encoder = format!("vars.encoder={}", elsewhere.path("enc").display());
    let said = export(&sandbox, &["--set", &encoder]);
    assert_eq!(said.code, 0);
    assert!(
        said.stderr.starts_with("warning: `/")
            && said.stderr.contains("enc/config.json` and 2 more files, which stages read, will not be in the volume"),
        "{}",
        said.stderr
    );
    assert!(!export(&sandbox, &[]).stderr.contains("warning"));
}
