"""Conversations of two questions on one passage, whose second says "it" for what it is about.

The subject is what both questions name: the longest run of words, a proper name if there is one,
that stands by itself in the second. Of all such conversations those are taken whose second question
has the fewest words of its own left, as follow-ups are short. SQuAD where it is at hand, among
passages of MuSiQue, else the Python reference.
"""

import random
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pydoc_data.topics import topics
from typing import NamedTuple

from tests.bench.harness import CannotRun, read_jsonl, shared_data

NUM_OTHERS = 200
"""Documents of MuSiQue among which those of SQuAD are searched for."""


class Word(NamedTuple):
    text: str
    start: int
    end: int

    @property
    def base(self) -> str:
        return self.text.lower().removesuffix("'s")


@dataclass(frozen=True, slots=True)
class Talk:
    first: str
    named: str
    """The second question as it was asked."""
    second: str
    """The same with a pronoun."""
    document: str


@dataclass(frozen=True, slots=True)
class Talks:
    source: str
    talks: list[Talk]
    documents: dict[str, str]


_WORD = re.compile(r"\w[\w'.-]*\w|\w")
_SMALL = frozenset(
    word
    for line in (
        "a about also an and are as at be been by can could did do does for from get given had has",
        "have how if in into is it its many much name no not of on one or other said than that the",
        "their there these they this those to type used was were what when where which who whom",
        "whose why will with would",
    )
    for word in line.split()
)
_INSIDE = frozenset(("of", "the"))
"""Small words that a subject may have inside."""


def make_talks(num: int, seed: int) -> Talks:
    try:
        found = _squad(seed)
    except CannotRun:
        found = _reference()
    drawn = random.Random(seed).sample(found.talks, len(found.talks))
    return Talks(found.source, sorted(drawn, key=_num_own_words)[:num], found.documents)


def _num_own_words(talk: Talk) -> int:
    words = [match.group().lower().removesuffix("'s") for match in _WORD.finditer(talk.second)]
    return sum(word not in _SMALL for word in words)


def with_pronoun(first: str, second: str) -> str | None:
    """The second question with a pronoun for what both name; None where there is no such thing."""
    words = [Word(m.group(), m.start(), m.end()) for m in _WORD.finditer(second)]
    known = [m.group().lower().removesuffix("'s") for m in _WORD.finditer(first)]
    runs = [(i, j) for i, j in _runs(words, known) if j - i > 1 or _named(words, i, j)]
    if not runs:
        return None
    i, j = max(runs, key=lambda run: (_named(words, *run), _length(words, *run)))
    start, end = words[i].start, words[j - 1].end
    if i and words[i - 1].text.lower() in ("the", "a", "an"):
        start = words[i - 1].start
    owns = words[j - 1].text.endswith("'s") or second[end : end + 1] == "'"
    plural = re.search(r"[^sui]s$", words[j - 1].base)
    pronoun = (("its", "their") if owns else ("it", "they"))[bool(plural)]
    end += second[end : end + 1] == "'"
    return second[:start] + (pronoun if start else pronoun.capitalize()) + second[end:]


def _runs(words: list[Word], known: list[str]) -> Iterator[tuple[int, int]]:
    """Words [i, j) that the first question has too, between small words or ends."""
    small = [word.base in _SMALL for word in words]
    for i in range(len(words)):
        for j in range(i + 1, len(words) + 1):
            run = [word.base for word in words[i:j]]
            whole = not (small[i] or small[j - 1]) and _SMALL.intersection(run) <= _INSIDE
            owns = words[j - 1].text.endswith("'s")
            apart = (not i or small[i - 1]) and (j == len(words) or small[j] or owns)
            if whole and apart and run in [known[k : k + len(run)] for k in range(len(known))]:
                yield i, j


def _named(words: list[Word], i: int, j: int) -> bool:
    return any(word.text[0].isupper() for word in words[max(i, 1) : j])


def _length(words: list[Word], i: int, j: int) -> int:
    return words[j - 1].end - words[i].start


def _squad(seed: int) -> Talks:
    folder = shared_data("squad")
    asked: dict[str, list[str]] = defaultdict(list)
    for line in read_jsonl(folder / "questions.jsonl"):
        if line["answers"]:
            asked[line["passage_id"]].append(line["question"])
    rng = random.Random(seed)
    talks = []
    for document, questions in asked.items():
        for named in questions:
            made = [
                Talk(first, named, second, document)
                for first in questions
                if first != named and (second := with_pronoun(first, named))
            ]
            talks += [rng.choice(made)] if made else []
    others = read_jsonl(shared_data("musique") / "passages.jsonl")[:NUM_OTHERS]
    lines = read_jsonl(folder / "passages.jsonl") + others
    texts = {line["id"]: line["text"] for line in lines}
    return Talks("SQuAD, among passages of MuSiQue", talks, texts)


def _reference() -> Talks:
    """Topics whose names are words, asked about one after another."""
    names = [name for name in sorted(topics) if name.isalpha()]
    asks = ("What are the rules of {}?", "When is an error raised by {}?", "Who needs {}?")
    talks = [
        Talk(f"How does {name} work in Python?", one.format(name), one.format("it"), name)
        for name in names
        for one, _ in pairwise(asks)
    ]
    return Talks("Python reference", talks, {name: topics[name][:900] for name in names})
