"""Checkpoints, as `transformers` opens them: weights, label names, and the answers that bam's own predictions hold."""

from pathlib import Path

import torch
from logits import batch, near, predicted
from made import Made, hold
from rows import LABELS, TASKS
from safetensors.torch import load_file
from transformers import AutoModel, AutoModelForSequenceClassification


def opened(kind, folder: Path, beside: set[str]):
    """The model, if it finds all of its weights, and the checkpoint holds no others but those named."""
    model, said = kind.from_pretrained(folder, output_loading_info=True)
    hold("weights that the checkpoint lacks", set(said["missing_keys"]), set())
    hold("weights that the model knows nothing of", set(said["unexpected_keys"]), beside)
    hold("weights of another shape", set(said["mismatched_keys"]), set())
    return model.eval()


def inputs(made: Made, task: str) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(values) for name, values in batch(made, task).items()}


@torch.inference_mode()
def of_one_task(made: Made, task: str) -> str:
    model = opened(AutoModelForSequenceClassification, made.artifact(f"teacher@{task}"), set())
    names = LABELS.get(task, [task])
    hold("`id2label`", model.config.id2label, dict(enumerate(names)))
    hold("`label2id`", model.config.label2id, {name: id for id, name in enumerate(names)})
    problem = "regression" if task == "near" else "single_label_classification"
    hold("`problem_type`", model.config.problem_type, problem)
    logits = model(**inputs(made, task)).logits
    apart = near("logits", logits, predicted(made, f"predictions@{task}"))
    return f"label names, and logits within {apart:.1e} of predictions@{task}"


@torch.inference_mode()
def of_all_tasks(made: Made) -> str:
    folder = made.artifact("student")
    heads = {task: [f"heads.{task}.{part}" for part in ("weight", "bias")] for task in TASKS}
    model = opened(AutoModel, folder, {name for head in heads.values() for name in head})
    weights = load_file(folder / "model.safetensors")
    apart = []
    for task, head in heads.items():
        pooled = model(**inputs(made, task)).pooler_output
        logits = torch.nn.functional.linear(pooled, *(weights[name] for name in head))
        apart.append(near(f"logits of {task}", logits, predicted(made, f"answers@{task}")))
    return f"with its heads, logits of {len(TASKS)} tasks within {max(apart):.1e} of answers"


def checks(made: Made):
    for task in TASKS:
        title = f"AutoModelForSequenceClassification opens teacher@{task}"
        yield title, lambda task=task: of_one_task(made, task)
    yield "AutoModel opens student", lambda: of_all_tasks(made)
