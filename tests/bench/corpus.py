"""Questions with passages for the scenarios that need real text."""

import random
from pydoc_data.topics import topics

from tests.bench.harness import read_jsonl, shared_data

Lists = list[tuple[str, list[str]]]


def squad(num: int, candidates: int, seed: int) -> Lists:
    """Answerable SQuAD questions, each with its passage among others; CannotRun where absent."""
    folder = shared_data("squad")
    texts = {p["id"]: p["text"] for p in read_jsonl(folder / "passages.jsonl")}
    asked = [q for q in read_jsonl(folder / "questions.jsonl") if q["answers"]]
    rng = random.Random(seed)
    lists: Lists = []
    for question in rng.sample(asked, num):
        others = [text for key, text in texts.items() if key != question["passage_id"]]
        passages = [texts[question["passage_id"]], *rng.sample(others, candidates - 1)]
        rng.shuffle(passages)
        lists.append((question["question"], passages))
    return lists


def python_reference(num: int, candidates: int, seed: int) -> Lists:
    """Paragraph groups of the language reference, asked about by their topic's name."""
    rng = random.Random(seed)
    cut = {name: text[:900] for name, text in topics.items()}
    lists: Lists = []
    for i in range(num):
        name = sorted(cut)[i % len(cut)]
        others = [text for other, text in cut.items() if other != name]
        passages = [cut[name], *rng.sample(others, candidates - 1)]
        rng.shuffle(passages)
        lists.append((f"How does {name} work in Python?", passages))
    return lists
