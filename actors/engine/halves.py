"""Scores of questions that follow other turns of a conversation.

Such a question is scored twice, by itself and behind the turns before it, and a passage has the
mean of both scores (see `actors.retrieval.asked`, which searches alike). Both are scored in the
same passes, so a passage's KV is loaded or computed once.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from actors.engine.asking import Ask
from actors.errors import ActorError
from actors.messages import RerankResult

Outcome = RerankResult | ActorError
Score = Callable[[Sequence[Ask]], Iterator[tuple[int, Outcome]]]


def in_halves(
    asks: Sequence[Ask], halves_of: Callable[[Ask], Sequence[Ask]], score: Score
) -> Iterator[tuple[int, Outcome]]:
    """Outcomes with their index in `asks`, as soon as one or two halves of each are scored.

    An error of either half is the question's.
    """
    halves = [(index, half) for index, ask in enumerate(asks) for half in halves_of(ask)]
    owners = [index for index, _ in halves]
    done: dict[int, list[Outcome]] = defaultdict(list)
    for i, outcome in score([half for _, half in halves]):
        index = owners[i]
        done[index].append(outcome)
        if len(done[index]) == owners.count(index):
            yield index, _mean(done[index])


def _mean(outcomes: Sequence[Outcome]) -> Outcome:
    results = [outcome for outcome in outcomes if isinstance(outcome, RerankResult)]
    if len(results) < len(outcomes):
        return next(outcome for outcome in outcomes if isinstance(outcome, ActorError))
    if len(results) == 1:
        return results[0]
    one, other = results
    both = zip(one.log_likelihoods, other.log_likelihoods, strict=True)
    return replace(
        one,
        log_likelihoods=tuple((a + b) / 2 for a, b in both),
        num_tokens=one.num_tokens + other.num_tokens,
        cache=one.cache + other.cache,
        seconds=max(one.seconds, other.seconds),
    )
