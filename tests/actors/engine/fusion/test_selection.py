"""Which tokens each rule computes again."""

from dataclasses import replace
from typing import get_args

import pytest
import torch

from actors.engine.config import FusionConfig, SelectionRule
from actors.engine.fusion.assembled import Assembled
from actors.engine.fusion.rotation import Rotation
from actors.engine.fusion.rules import create_selection
from actors.engine.fusion.selection import Heads, KVDeviation, QueryGuided, pick
from actors.engine.fusion.sparse import SparseBatch
from actors.engine.lanes import Lane
from actors.engine.models import Decoder
from actors.engine.packed import Batch
from actors.engine.prompt import Prompt
from tests.actors.engine.texts import PASSAGES, QUESTIONS

RULES: tuple[SelectionRule, ...] = get_args(SelectionRule)


_made: dict[tuple[int, ...], Assembled] = {}


def assembled(decoder: Decoder, prompt: Prompt, order: tuple[int, ...]) -> Assembled:
    """Every passage with the KV it has alone, moved to its place; computed once."""
    if order not in _made:
        _made[order] = _assembled(decoder, prompt, order)
    return replace(_made[order], kv=_made[order].kv.clone())


def _assembled(decoder: Decoder, prompt: Prompt, order: tuple[int, ...]) -> Assembled:
    prefix, passages = prompt.prefix, tuple(prompt.passage(PASSAGES[i]) for i in order)
    made = Assembled(decoder.empty_kv(1024), prefix, passages)
    head = made.kv[:, :, :, : len(prefix)]
    decoder.forward(Batch([Lane(prefix, sinks=(head,))]))
    rotation = Rotation.of(decoder)
    for (start, end), passage in zip(made.spans, passages, strict=True):
        place = made.kv[:, :, :, start:end]
        decoder.forward(Batch([Lane(passage, [head], (place,))]))
        rotation.move(place[:, 0], start - len(prefix), out=place[:, 0])
    return made


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("num", [1, 60, 10_000])
def test_as_many_as_asked_for_and_none_of_the_first_passage(
    decoder: Decoder, prompt: Prompt, rule: SelectionRule, num: int
) -> None:
    made = assembled(decoder, prompt, (0, 1, 2))
    config = FusionConfig(selection=rule)
    selection = create_selection(config, decoder, Rotation.of(decoder))
    question = prompt.question(QUESTIONS[0])
    found = pick(selection, made, question, num)
    first = made.stale[0][0]
    assert found == sorted(set(found)) and first <= found[0] and found[-1] < made.end
    assert len(found) == min(num, made.end - first)
    assert found == pick(selection, made, question, num)


@pytest.mark.parametrize("rule", RULES)
def test_nothing_is_chosen_where_nothing_is_stale_or_wanted(
    decoder: Decoder, prompt: Prompt, rule: SelectionRule
) -> None:
    config = FusionConfig(selection=rule)
    selection = create_selection(config, decoder, Rotation.of(decoder))
    question = prompt.question(QUESTIONS[0])
    assert pick(selection, assembled(decoder, prompt, (0,)), question, 5) == []
    assert pick(selection, assembled(decoder, prompt, (0, 1)), question, 0) == []


def test_query_guided_scores_do_not_depend_on_the_place(decoder: Decoder, prompt: Prompt) -> None:
    rule = QueryGuided(decoder, Rotation.of(decoder))
    question = prompt.question(QUESTIONS[2])
    one, two = (assembled(decoder, prompt, order) for order in ((0, 1, 2, 3), (3, 2, 0, 1)))
    first, second = rule.scores(one, question), rule.scores(two, question)
    size = len(one.passages[2])
    of_two = first[len(one.passages[1]) :][:size]
    torch.testing.assert_close(of_two, second[:size], atol=1e-3, rtol=1e-3)
    assert of_two.std() > 0.01


def test_query_guided_prefers_the_passage_s_words_of_the_question(
    decoder: Decoder, prompt: Prompt
) -> None:
    """Final-layer attention of a question about a name finds that name among other words."""
    made = assembled(decoder, prompt, (0, 1, 2))
    rule = QueryGuided(decoder, Rotation.of(decoder))
    asked = [rule.scores(made, prompt.question(question)) for question in QUESTIONS[:2]]
    assert not torch.allclose(asked[0], asked[1])


def test_deviation_is_nothing_where_the_kv_is_that_of_a_full_pass(
    decoder: Decoder, prompt: Prompt
) -> None:
    made = assembled(decoder, prompt, (0, 1, 2))
    rule = KVDeviation(decoder)
    stale = rule.scores(made, ())
    decoder.forward(SparseBatch(made.tokens, range(made.end), made.kv))
    assert rule.scores(made, ()).max() < 1e-6 < stale.max()


def test_heads_are_taken_evenly(decoder: Decoder, prompt: Prompt) -> None:
    made = assembled(decoder, prompt, (0, 1, 2, 3))
    starts = [start for start, _ in made.stale]
    assert pick(Heads(), made, (), 6) == [p for start in starts for p in (start, start + 1)]
