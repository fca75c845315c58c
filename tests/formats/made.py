"""The folder in which bam has run `pipeline.yaml`."""

import json
import os
import subprocess
from pathlib import Path

import rows

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
TINY = ROOT / "tests/fixtures/tiny-bert"
MINILM = ROOT / ".deps/encoders/all-MiniLM-L6-v2"

# As they stand in `pipeline.yaml`; `rows.py` has the tasks.
MOST = 21
TOKENIZERS = ["tiny", "minilm", "vocabulary", "cased"]
CUTS = [12, 13]
PRECISIONS = ["fp32", "fp16", "int8"]

# With all that a manifest may have of a profile.
PROFILE = """
executor: slurm
environment: { HF_HOME: /project/hub }
limits:
  train: { time: 4h, cpus: 8, memory: 32GiB, gpus: 1 }
  predict: { time: 30m }
"""


class Differs(Exception):
    """What another program reads isn't what bam promises."""


def hold(what: str, found, wanted) -> None:
    """Raises with both sides, or with the first rows that differ."""
    if found == wanted:
        return
    if isinstance(found, list) and isinstance(wanted, list) and len(found) == len(wanted):
        at = next(at for at, (a, b) in enumerate(zip(found, wanted)) if a != b)
        what, found, wanted = f"{what}, row {at}", found[at], wanted[at]
    raise Differs(f"{what}\n  is      {found!r}\n  wanted  {wanted!r}")


class Made:
    def __init__(self, folder: Path):
        self.folder = folder.resolve()

    def lay(self) -> None:
        """The pipeline file and what it reads."""
        for task in rows.TASKS:
            (self.folder / "rows" / task).mkdir(parents=True)
            for split in rows.SPLITS:
                lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows.rows(task, split)]
                self.rows_of(task, split).write_text("".join(lines), encoding="utf-8", newline="\n")
        encoders = self.folder / "encoders"
        encoders.mkdir()
        (encoders / "tiny").symlink_to(TINY)
        (encoders / "minilm").symlink_to(MINILM)
        # Two that are only a vocabulary, one by BERT's own settings and one by others. `transformers` wants a kind.
        for name, settings in [("vocabulary", None), ("cased", {"do_lower_case": False})]:
            (encoders / name).mkdir()
            (encoders / name / "vocab.txt").symlink_to(MINILM / "vocab.txt")
            (encoders / name / "config.json").write_text('{"model_type": "bert"}')
            if settings:
                (encoders / name / "tokenizer_config.json").write_text(json.dumps(settings))
        (self.folder / "pipeline.yaml").write_text((HERE / "pipeline.yaml").read_text())
        (self.folder / "cluster.yaml").write_text(PROFILE)

    def bam(self, program: Path, *arguments: str) -> None:
        """Raises `CalledProcessError` with what bam said where it fails."""
        # Not into a store or a remote that the user's own pipelines have.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("BAM_")}
        command = [program.resolve(), *arguments]
        subprocess.run(command, cwd=self.folder, env=environment, check=True, text=True, capture_output=True)

    def rows_of(self, task: str, split: str) -> Path:
        return self.folder / "rows" / task / f"{split}.jsonl"

    def answers(self, ending: str) -> Path:
        """What `bam predict` has written."""
        return self.folder / f"answers.{ending}"

    def manifests(self) -> list[Path]:
        """The waves that `bam export k8s` has written."""
        return sorted((self.folder / "k8s").glob("wave-*.yaml"))

    def encoder(self, name: str) -> Path:
        return self.folder / "encoders" / name

    def artifact(self, stage: str) -> Path:
        """The stage's folder in the store, whose name is its fingerprint."""
        return (self.folder / "artifacts/latest" / stage).resolve()
