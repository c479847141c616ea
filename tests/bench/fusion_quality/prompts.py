"""Questions over passages, and the neighbours of every passage in the corpus."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from actors.retrieval.config import RetrievalConfig
from actors.retrieval.embedding import Embedder
from tests.bench.harness import read_jsonl, shared_data

SQUAD_PASSAGES = 6


@dataclass(frozen=True, slots=True)
class Asked:
    question: str
    passages: tuple[str, ...]
    answers: tuple[str, ...]


class Neighbours:
    """Of each passage the most similar others, by cosine over the whole pool."""

    def __init__(self, texts: Sequence[str], num: int, embedder: Embedder) -> None:
        vectors = embedder.embed(texts)
        top = np.argsort(-(vectors @ vectors.T), axis=1, kind="stable")[:, : num + 1]
        self._of = {
            text: tuple(texts[j] for j in row if j != i)[:num]
            for i, (text, row) in enumerate(zip(texts, top, strict=True))
        }

    def of(self, text: str) -> tuple[str, ...]:
        return self._of[text]


def squad(num: int, seed: int, embedder: Embedder) -> tuple[list[str], list[Asked]]:
    """The pool, and answerable questions: the gold passage among the nearest others, shuffled."""
    folder, rng = shared_data("squad"), random.Random(seed)
    texts = {str(p["id"]): str(p["text"]) for p in read_jsonl(folder / "passages.jsonl")}
    lines = [q for q in read_jsonl(folder / "questions.jsonl") if q["answers"]]
    drawn = rng.sample(lines, num)
    keys, vectors = list(texts), embedder.embed(list(texts.values()))
    similar = embedder.embed([q["question"] for q in drawn]) @ vectors.T
    asked = []
    for line, row in zip(drawn, np.argsort(-similar, axis=1, kind="stable"), strict=True):
        others = [keys[i] for i in row if keys[i] != line["passage_id"]]
        chosen = [line["passage_id"], *others[: SQUAD_PASSAGES - 1]]
        rng.shuffle(chosen)
        passages = tuple(texts[key] for key in chosen)
        asked.append(Asked(line["question"], passages, tuple(line["answers"])))
    return list(texts.values()), asked


def musique(num: int, cut: int) -> tuple[list[str], list[Asked]]:
    """The pool, and multi-hop questions with their contexts, each cut to about `cut` words' worth
    of characters."""
    folder = shared_data("musique")
    texts = {p["id"]: str(p["text"])[:cut] for p in read_jsonl(folder / "passages.jsonl")}
    lines = read_jsonl(folder / "questions.jsonl")[:num]
    asked = [
        Asked(
            q["question"],
            tuple(dict.fromkeys(texts[key] for key in q["context_ids"])),
            tuple(q["answers"]),
        )
        for q in lines
    ]
    return list(dict.fromkeys(texts.values())), asked


def load_embedder() -> Embedder:
    config = RetrievalConfig()
    return Embedder(config.embedder, config.embed_batch)
