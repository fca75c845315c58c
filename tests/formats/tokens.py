"""Tokens, as the fast tokenizer of `transformers` makes them of the same texts.

Texts go in as lists: beside a text that stands alone, `transformers` takes an empty second one for none.
"""

from pathlib import Path

import pyarrow.parquet
from made import CUTS, MOST, TOKENIZERS, Differs, Made, hold
from rows import SPLITS, TASKS, rows
from transformers import AutoTokenizer


def same(tokenizer, folder: Path, task: str, most: int) -> tuple[int, int]:
    """Numbers of rows, and of pairs that lost tokens on both sides."""
    seen = both = 0
    for split in SPLITS:
        table = pyarrow.parquet.read_table(folder / f"{split}.parquet").to_pydict()
        texts = rows(task, split)
        hold(f"{split}: ids", sorted(set(table["id"])), list(range(len(texts))))
        sides = [(texts[id]["text"], texts[id].get("pair")) for id in table["id"]]
        sides = [side[::-1] if swapped else side for side, swapped in zip(sides, table["swapped"])]
        firsts = [first for first, _ in sides]
        seconds = None if task == "mood" else [second for _, second in sides]
        whole = tokenizer(firsts, seconds)
        cut = tokenizer(firsts, seconds, truncation=True, max_length=most)
        wanted = list(zip(sides, cut["input_ids"], cut["token_type_ids"], lost(whole, cut)))
        found = list(zip(sides, table["input_ids"], table["token_type_ids"], table["lost_tokens"]))
        hold(f"{split}: texts, input_ids, token_type_ids and lost_tokens", found, wanted)
        seen += len(sides)
        both += sum(all(kept(cut, at, side) < kept(whole, at, side) for side in (0, 1)) for at in range(len(sides)))
    return seen, both


def lost(whole, cut) -> list[int]:
    return [len(all) - len(part) for all, part in zip(whole["input_ids"], cut["input_ids"])]


def kept(encoded, at: int, side: int) -> int:
    return encoded.sequence_ids(at).count(side)


def pieces(made: Made, name: str, cut: int) -> str:
    tokenizer = AutoTokenizer.from_pretrained(made.encoder(name))
    seen, both = same(tokenizer, made.artifact(f"pieces@{name}@{cut}"), "alike", cut)
    if not both:
        raise Differs("no pair is cut on both sides, so that nothing was tried")
    return f"{seen} pairs, {both} of them cut on both sides"


def of_model(made: Made, stage: str) -> str:
    tokenizer = AutoTokenizer.from_pretrained(made.artifact(stage))
    seen = sum(same(tokenizer, made.artifact(f"tokens@{task}"), task, MOST)[0] for task in TASKS)
    return f"{seen} rows of {len(TASKS)} tasks"


def checks(made: Made):
    for name in TOKENIZERS:
        for cut in CUTS:
            title = f"AutoTokenizer cuts to {cut} as pieces@{name}"
            yield title, lambda name=name, cut=cut: pieces(made, name, cut)
    for stage in ["teacher@alike", "student", "onnx@int8"]:
        yield f"AutoTokenizer opens {stage}", lambda stage=stage: of_model(made, stage)
