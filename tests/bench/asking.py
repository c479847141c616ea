"""Questions put to an engine, and how two of its answers compare."""

import itertools
import time
from collections.abc import Sequence

from actors.engine.generate import GenerateEngine
from actors.engine.rerank import RerankEngine
from actors.messages import GenerateRequest, Message, Sampling
from tests.bench.corpus import Asked, Lists, python_reference, squad
from tests.bench.harness import CannotRun

NUM_CANDIDATES = 10
NEW_TOKENS = 16
Scores = tuple[float, ...]


def question_lists(num: int, seed: int) -> Lists:
    """Real questions, each with passages: SQuAD where it is at hand, else the Python reference."""
    try:
        return squad(num, NUM_CANDIDATES, seed)
    except CannotRun:
        return python_reference(num, NUM_CANDIDATES, seed)


def scores(engine: RerankEngine, item: Asked) -> Scores:
    return engine.score("bench", item.question, item.passages, timeout_s=300).log_likelihoods


def answer(engine: GenerateEngine, item: Asked, passages: int = 3) -> list[int]:
    """Greedy tokens from the question and its first passages."""
    return greedy(engine, item.question, item.passages[:passages])


def greedy(engine: GenerateEngine, question: str, passages: Sequence[str]) -> list[int]:
    message = Message("user", question)
    request = GenerateRequest(
        "bench", "bench", (message,), tuple(passages), Sampling(NEW_TOKENS), 300
    )
    sequence = engine.start(request, time.monotonic() + 300)
    tokens = [sequence.last]
    while len(tokens) < NEW_TOKENS and not engine.ends(tokens[-1]):
        engine.step([sequence])
        tokens.append(sequence.last)
    return tokens


def order(scores: Sequence[float]) -> list[int]:
    return sorted(range(len(scores)), key=lambda i: -scores[i])


def reciprocal_rank(scores: Sequence[float], right: int) -> float:
    return 1 / (1 + order(scores).index(right))


def kendall(a: Sequence[float], b: Sequence[float]) -> float:
    """Kendall's tau-a of two score lists."""
    pairs = list(itertools.combinations(range(len(a)), 2))
    agree = sum((a[i] - a[j]) * (b[i] - b[j]) > 0 for i, j in pairs)
    return 2 * agree / len(pairs) - 1
