"""Questions that share passes get the scores that each would get alone."""

import time
from collections.abc import Sequence

import pytest
import torch

from actors.engine.asking import Ask
from actors.engine.config import RerankerConfig
from actors.engine.rerank import RerankEngine
from actors.engine.runtime import Runtime
from actors.errors import ExpiredError, RequestError, UnavailableError
from actors.messages import RerankResult
from kvstore.local import LocalStoreClient
from tests.actors.engine.texts import PASSAGES, QUESTIONS


def _asks(*questions: tuple[str, Sequence[str]], left_s: float = 60.0) -> list[Ask]:
    return [Ask(question, texts, time.monotonic() + left_s) for question, texts in questions]


ASKED = ((QUESTIONS[0], PASSAGES[:3]), (QUESTIONS[1], PASSAGES[2:5]), (QUESTIONS[2], PASSAGES[1:2]))


@pytest.mark.parametrize("reuse", ["on", "off"])
@pytest.mark.parametrize("batch_tokens", [2560, 40])
def test_scores_and_reports_of_a_batch(
    runtime: Runtime, client: LocalStoreClient, reuse: str, batch_tokens: int
) -> None:
    config = RerankerConfig(reuse="on" if reuse == "on" else "off", batch_tokens=batch_tokens)
    engine = RerankEngine(runtime, config, client)
    alone = RerankEngine(runtime, RerankerConfig(reuse="off"), None)
    expected = [alone.score("t", question, texts, 60) for question, texts in ASKED]
    reports = []
    for _ in range(2):
        outcomes = dict(engine.score_batch("t", _asks(*ASKED)))
        for index, full in enumerate(expected):
            outcome = outcomes[index]
            assert isinstance(outcome, RerankResult)
            assert outcome.log_likelihoods == pytest.approx(full.log_likelihoods, abs=1e-3)
            assert outcome.num_tokens == full.num_tokens
            assert outcome.cache.hits + outcome.cache.computed == len(full.log_likelihoods)
            reports.append(outcome.cache)
    num_computed = [sum(r.computed for r in part) for part in (reports[:3], reports[3:])]
    assert num_computed == ([5, 0] if reuse == "on" else [7, 7]), "what several want, once"


def test_one_outcome_each_whatever_is_wrong_with_the_others(
    runtime: Runtime, client: LocalStoreClient
) -> None:
    engine = RerankEngine(runtime, RerankerConfig(max_candidates=3), client)
    asks = [
        *_asks(("", PASSAGES[:1]), (QUESTIONS[0], PASSAGES[:2])),
        *_asks((QUESTIONS[1], PASSAGES[:2]), left_s=-1.0),
        *_asks((QUESTIONS[1], PASSAGES[:4]), (QUESTIONS[1], [])),
    ]
    outcomes = list(engine.score_batch("t", asks))
    assert sorted(index for index, _ in outcomes) == [0, 1, 2, 3, 4]
    kinds = {index: type(outcome) for index, outcome in outcomes}
    assert (kinds[0], kinds[2], kinds[3]) == (RequestError, ExpiredError, RequestError)
    assert kinds[1] is kinds[4] is RerankResult


def test_what_is_not_a_number_never_passes(
    runtime: Runtime, client: LocalStoreClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its question fails, the next pass over the same workspace is right."""
    engine = RerankEngine(runtime, RerankerConfig(), client)
    before = engine.score("t", QUESTIONS[0], PASSAGES[:2], 60)
    forward = runtime.decoder.forward
    with monkeypatch.context() as patched:
        patched.setattr(
            type(runtime.decoder), "forward", lambda self, batch: forward(batch) * torch.nan
        )
        with pytest.raises(UnavailableError, match="not finite"):
            engine.score("t", QUESTIONS[0], PASSAGES[:2], 60)
    after = engine.score("t", QUESTIONS[0], PASSAGES[:2], 60)
    assert after.log_likelihoods == before.log_likelihoods


def test_a_fixed_suffix_that_was_evicted_is_computed_behind_its_passage(
    runtime: Runtime, client: LocalStoreClient
) -> None:
    engine = RerankEngine(runtime, RerankerConfig(), client)
    before = engine.score("t", QUESTIONS[0], PASSAGES[:2], 60)
    candidates = engine._made("t", [runtime.prompt.passage(text) for text in PASSAGES[:2]])
    client.remove_tags([candidates[0].path[2].tag])
    assert client.stats().dram.num_segments == 3
    after = engine.score("t", QUESTIONS[0], PASSAGES[:2], 60)
    assert after.log_likelihoods == pytest.approx(before.log_likelihoods, abs=1e-3)
    assert (after.cache.dram_hits, after.cache.computed) == (2, 0)
    assert client.stats().dram.num_segments == 5
