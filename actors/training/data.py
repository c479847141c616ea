"""Questions and the passages that they are about, from two JSONL files.

    questions.jsonl   {"question": "When ...?", "passage_id": "p1"}
    passages.jsonl    {"id": "p1", "text": "..."}

Other fields are ignored. A RequestError names the file, the line and the field.
"""

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from actors.errors import RequestError


@dataclass(frozen=True, slots=True)
class Question:
    text: str
    positive: int
    """Index of its passage."""


@dataclass(frozen=True, slots=True)
class Examples:
    passages: list[str]
    questions: list[Question]
    digest: str
    """Of what was read: a run is continued only with the same."""


def read_examples(questions: Path, passages: Path) -> Examples:
    """Every passage is a possible negative, also those that no question is about."""
    indices: dict[str, int] = {}
    texts: list[str] = []
    for where, record in _records(passages):
        key = _text(record, "id", where)
        if key in indices:
            raise RequestError(where, f"id {key!r} appears twice")
        indices[key] = len(texts)
        texts.append(_text(record, "text", where))
    asked: list[Question] = []
    for where, record in _records(questions):
        key = _text(record, "passage_id", where)
        if key not in indices:
            raise RequestError(where, f"passage_id {key!r} is not among the ids of {passages}")
        asked.append(Question(_text(record, "question", where), indices[key]))
    examples = make_examples(texts, asked)
    if len(examples.passages) < 2:
        raise RequestError(str(passages), "holds one passage; nothing can be compared with it")
    return examples


def make_examples(passages: Sequence[str], questions: Sequence[Question]) -> Examples:
    """Passages of the same text become one: each is as right as the other."""
    places = {text: place for place, text in enumerate(dict.fromkeys(passages))}
    asked = [Question(q.text, places[passages[q.positive]]) for q in questions]
    state = sha256()
    for text in (*places, *(f"{q.positive} {q.text}" for q in asked)):
        state.update(f"{len(text)} {text}".encode())
    return Examples(list(places), asked, state.hexdigest()[:32])


def split(examples: Examples, held_out_share: float, seed: int) -> tuple[list[int], list[int]]:
    """Indices of questions to train on, and of those held out.

    Questions of one passage stay together, so that no held-out passage is a trained positive.
    Raises RequestError when nothing would be left to train on.
    """
    by_passage: dict[int, list[int]] = {}
    for i, question in enumerate(examples.questions):
        by_passage.setdefault(question.positive, []).append(i)
    groups = list(by_passage.values())
    random.Random(seed).shuffle(groups)
    wanted = round(held_out_share * len(examples.questions))
    held_out: list[int] = []
    while groups and len(held_out) < wanted:
        held_out += groups.pop()
    if not groups:
        raise RequestError(
            "held_out_share", f"is {held_out_share}: no question would be left to train on"
        )
    return sorted(i for group in groups for i in group), sorted(held_out)


def _records(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except OSError as error:
        raise RequestError(str(path), f"cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise RequestError(str(path), f"is not UTF-8: {error}") from error
    found = False
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        where, found = f"{path}:{number}", True
        try:
            record = json.loads(line)
        except (json.JSONDecodeError, RecursionError) as error:
            raise RequestError(where, f"is not JSON: {error}") from error
        if not isinstance(record, dict):
            raise RequestError(where, f"is a {type(record).__name__}, must be an object")
        yield where, record
    if not found:
        raise RequestError(str(path), "is an empty file; expected one JSON object a line")


def _text(record: dict[str, Any], field: str, where: str) -> str:
    value = record.get(field)
    if not isinstance(value, str) or not value.strip():
        raise RequestError(where, f"{field} is {value!r}, must be text that is not blank")
    return value
