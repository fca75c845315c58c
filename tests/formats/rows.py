"""Rows of the tasks in `pipeline.yaml`: of all lengths up to pairs cut on both sides, and hard to tokenize."""

import random

TASKS = ["mood", "alike", "near"]
SPLITS = {"train": 96, "dev": 64, "test": 32}
LABELS = {"mood": ["sad", "so so", "glad, very"], "alike": ["no", "yes"]}
RANGE = (0, 5)  # of `near`
MOST_WORDS = 24

WORDS = """
the a not of to in we film was boring running unable untested shortness kettle ferry watered ficus 3.50 1,000 re-read
don't naïve café Über ŒUVRE ﬁne straße İstanbul Ελλάδα Москва שלום مرحبا नमस्ते 東京 日本語 한국어 ไทย 🙂 👩‍👩‍👧 ½ € ©
“quoted” —
""".split()
HARD = [
    "", " ", "\t", "\u00a0\u2003\u3000", "\u200b\u200d\ufeff", "\u0000\u0007\ufffd", "  led  by\tspaces  ",
    "line\nbreak\r\nand\u2028more", "[CLS] [SEP] [PAD] [UNK] [MASK]", "a[SEP]b", "[sep] [ SEP ]", "##ing ## #",
    "e\u0301clair E\u0301CLAIR", "a\u0300\u0301\u0302b", "x" * 100, "x" * 101, "x" * 300, "word" * 60, "!?" * 20,
    "東京都に住む" * 5, "🙂" * 30, "\U0001f468\u200d\U0001f4bb", "ﬀ ﬃ ĳ ǆ ß ẞ İ ı ſ \u212a \u212b", "١٢٣ ๑๒๓ Ⅻ ² ½",
    "\ud7a3\u1100\u1161\u11a8", "soft\u00adhyphen", "\u202eleft\u202c", "$^`|~+<=>", "٪؟؛،。、「」",
]


def text(drawn: random.Random) -> str:
    if drawn.random() < 0.25:
        return drawn.choice(HARD)
    return " ".join(drawn.choices(WORDS, k=drawn.randint(1, MOST_WORDS)))


def gold(task: str, text: str, pair: str) -> str | float:
    """By lengths, so that there is something to be learnt, and answers that differ from row to row."""
    if task == "near":
        return RANGE[1] * min(len(text), len(pair)) / max(len(text), len(pair), 1)
    names = LABELS[task]
    return names[len(text) > len(pair)] if task == "alike" else names[min(len(text) // 40, len(names) - 1)]


def row(task: str, split: str, first: str, drawn: random.Random) -> dict:
    made = {"text": first, "pair": text(drawn)}
    if split != "test":
        made["label"] = gold(task, **made)
    if task == "mood":
        del made["pair"]
    return made


def rows(task: str, split: str) -> list[dict]:
    """Each hard text once, then what is drawn."""
    drawn = random.Random(f"{task} {split}")
    firsts = HARD + [text(drawn) for _ in range(SPLITS[split] - len(HARD))]
    return [row(task, split, first, drawn) for first in firsts]


def label(task: str, row: dict) -> float | None:
    """As an artifact holds it: a value, or the number of a class."""
    found = row.get("label")
    return found if task == "near" or found is None else LABELS[task].index(found)
