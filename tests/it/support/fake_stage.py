#!/usr/bin/env python3
"""A worker for the engine's tests: small outputs that depend on parameters and input bytes alone.

A file `behaviour.json` in the current folder, {stage: what}, may make a stage misbehave:
  "fail"    report a failure           "crash"   end without a word
  "hang"    write half, then wait      "half"    say it is done without its files
  "same"    write the same bytes whatever it is given
  "slow"    take a second              "meet"    wait for another stage that meets, and fail if none comes
  "remove"  remove a file it reads     "killed"  be killed, as when memory is short
  "stubborn" wait, and not heed a request to end
  "steps"   take the steps that `steps` in `behaviour.json` tells, ten a second, and keep their number when asked to end
  "greedy"  take 300 MB
  "verbose" print three million characters without an end of line, then 20,000 events
"""

import hashlib
import json
import os
import pathlib
import signal
import sys
import time

FILES = {
    "data": ["train.parquet", "dev.parquet"],
    "tokenize": ["train.parquet", "dev.parquet"],
    "train": ["config.json", "model.safetensors", "bam.json"],
    "predict": ["dev.arrow"],
    "ensemble": ["dev.arrow"],
    "export": ["model.onnx", "bam.json"],
    "score": ["scores.json"],
    "compare": ["comparison.json", "trials.parquet"],
    "submit": ["submission.json", "submission.zip"],
}


def tell(event, **fields):
    print(json.dumps({"event": event, **fields}), flush=True)


def scores(job):
    """One accuracy per model and tokens, told by the models' names."""
    rows = [
        {"model": i["slot"].split(".", 1)[1], "task": "rte", "split": "dev", "rows": 10, "metrics": [["accuracy", 0.5]]}
        for i in job["inputs"]
        if i["slot"].startswith("models.")
    ]
    references = [i["slot"].split(".", 1)[1] for i in job["inputs"] if i["slot"].startswith("reference.")]
    differences = [{"model": m, "task": "rte", "split": "dev", "rows": 10, "max_abs_difference": 1e-6} for m in references]
    return json.dumps({"fingerprint": job["fingerprint"], "scores": rows, "logit_differences": differences})


def comparison(job):
    """One method's score on one task."""
    subject = {"task": {"task": "rte", "metric": "accuracy", "rows": 10}}
    spread = {"trials": 1, "median": 0.5, "mean": 0.5, "least": 0.5, "greatest": 0.5, "quartiles": [0.5, 0.5]}
    methods = sorted(job["spec"]["compare"]["methods"])
    summaries = [{"method": method, "subject": subject, **spread} for method in methods]
    found = {"fingerprint": job["fingerprint"], "methods": methods, "summaries": summaries, "tests": [], "cautions": []}
    return json.dumps(found)


def content(job):
    """A digest of all that the output may depend on."""
    (kind, params), = job["spec"].items()
    plain = {name: value for name, value in params.items() if name not in ("encoder", "from")}
    parts = [kind, json.dumps(plain, sort_keys=True)] + [i["slot"] + i["digest"] for i in job["inputs"]]
    if "encoder" in params:
        parts += [path.read_text() for path in sorted(pathlib.Path(params["encoder"]).iterdir())]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def steps(job, total):
    """Counts on from the state that was kept, and keeps it when asked to end, as a training does."""
    asked = []
    signal.signal(signal.SIGTERM, lambda *_: asked.append(True))
    resume = pathlib.Path(job["resume"])
    state = resume / "state.safetensors"
    first = int(state.read_text()) if state.exists() else 0
    print(f"from step {first}", file=sys.stderr, flush=True)
    for step in range(first, total):
        tell("progress", done=step + 1, total=total, unit="step", detail="")
        time.sleep(0.1)
        if asked:
            resume.mkdir(exist_ok=True)
            state.write_text(str(step + 1))
            tell("stopped", summary=f"step {step + 1} of {total}")
            sys.exit(1)
        pathlib.Path(f"at-step-{job['stage']}").write_text(str(step + 1))


def main():
    job = json.loads(pathlib.Path(sys.argv[1]).read_text())
    kind = next(iter(job["spec"]))
    behaviour = pathlib.Path("behaviour.json")
    what = json.loads(behaviour.read_text()).get(job["stage"], "") if behaviour.exists() else ""
    output = pathlib.Path(job["output"])
    # One stream each, for their order in the log is open.
    if kind == "train":
        print("a library prints this")
    else:
        print(f"working on {job['stage']}", file=sys.stderr, flush=True)
    if "CUDA_VISIBLE_DEVICES" in os.environ:
        # In one piece, for the other stream's lines go to the log too.
        os.write(2, f"GPUs: {os.environ['CUDA_VISIBLE_DEVICES']}\n".encode())
    tell("progress", done=1, total=2, unit="step", detail="loss 0.5")
    tell("metric", name="dev/rte/accuracy", value=0.5)
    if what == "steps":
        steps(job, json.loads(behaviour.read_text())["steps"])
    if what == "greedy":
        taken = bytearray(300_000_000)
        time.sleep(20)
    if what == "fail":
        tell("failed", causes=["line 3 of `train.tsv` has 2 columns, not 4", "no column `label`"], hint="mend the file")
        sys.exit(1)
    if what == "crash":
        sys.exit(3)
    if what == "half":
        tell("done", summary="nothing", provenance={})
        return
    if what == "verbose":
        print("x" * 3_000_000)
        for step in range(20_000):
            tell("progress", done=step, total=20_000, unit="step", detail="")
    if what == "meddle":
        (pathlib.Path(job["spec"][kind]["encoder"]) / "config.json").write_text("[]")
    if what == "remove":
        (pathlib.Path(job["spec"][kind]["encoder"]) / "config.json").unlink()
    if what == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        pathlib.Path("hanging").write_text("")
        time.sleep(600)
    if what == "slow":
        pathlib.Path(f"slow-{job['stage']}").write_text("")
        time.sleep(1)
    if what == "meet":
        pathlib.Path(f"met-{job['stage']}").write_text("")
        for _ in range(100):
            if len(list(pathlib.Path().glob("met-*"))) > 1:
                break
            time.sleep(0.02)
        else:
            tell("failed", causes=["nobody came"], hint=None)
            sys.exit(1)
    text = "the same" if what == "same" else content(job)
    for name in FILES[kind]:
        body = f"{name} {text} {job['fingerprint']}\n"
        if name == "scores.json":
            body = scores(job)
        if name == "comparison.json":
            body = comparison(job)
        (output / name).write_text(body)
        if what == "hang":
            pathlib.Path("hanging").write_text("")
            time.sleep(600)
    tell("done", summary=f"made by {kind}", provenance={"library": "1.0"})


main()
