"""Questions with passages for the scenarios that need real text."""

import random
from itertools import cycle, islice
from pydoc_data.topics import topics
from typing import NamedTuple

from tests.bench.harness import read_jsonl, shared_data


class Asked(NamedTuple):
    """A question with candidates, one of which it is about."""

    question: str
    passages: list[str]
    right: int
    """Index of the passage that the question is about."""


Lists = list[Asked]


def squad(num: int, candidates: int, seed: int) -> Lists:
    """Answerable SQuAD questions, each with its passage among others; CannotRun where absent.

    Where there are fewer than `num`, questions come again among other passages.
    """
    folder = shared_data("squad")
    texts = {p["id"]: p["text"] for p in read_jsonl(folder / "passages.jsonl")}
    asked = [q for q in read_jsonl(folder / "questions.jsonl") if q["answers"]]
    rng = random.Random(seed)
    lists: Lists = []
    for question in islice(cycle(rng.sample(asked, len(asked))), num):
        right = texts[question["passage_id"]]
        others = sorted({*texts.values()} - {right})
        lists.append(_among(rng, question["question"], right, rng.sample(others, candidates - 1)))
    return lists


def python_reference(num: int, candidates: int, seed: int) -> Lists:
    """Paragraph groups of the language reference, asked about by their topic's name."""
    rng = random.Random(seed)
    cut = {name: text[:900] for name, text in topics.items()}
    lists: Lists = []
    for i in range(num):
        name = sorted(cut)[i % len(cut)]
        others = sorted({*cut.values()} - {cut[name]})
        asked = f"How does {name} work in Python?"
        lists.append(_among(rng, asked, cut[name], rng.sample(others, candidates - 1)))
    return lists


def _among(rng: random.Random, question: str, right: str, others: list[str]) -> Asked:
    """The right passage at a random place among the others."""
    passages = [right, *others]
    rng.shuffle(passages)
    return Asked(question, passages, passages.index(right))
