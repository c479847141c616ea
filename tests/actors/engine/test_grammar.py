"""Answers that are held to a JSON schema, whatever the logits want."""

import json
from typing import Any

import jsonschema
import pytest
import torch

from actors.engine.grammar import Grammar, problem
from actors.engine.models import Decoder
from actors.engine.sampling import Sampler
from actors.engine.vocabulary import Vocabulary
from actors.errors import UnavailableError
from actors.messages import Sampling

PERSON: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 8},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "kind": {"enum": ["cat", "dog"]},
    },
    "required": ["name", "age", "kind"],
    "additionalProperties": False,
}


@pytest.fixture(scope="session")
def vocabulary(decoder: Decoder) -> Vocabulary:
    return Vocabulary(decoder)


def answer(vocabulary: Vocabulary, decoder: Decoder, schema: Any, seed: int) -> str:
    """Of a model that has no idea."""
    noise = torch.Generator().manual_seed(seed)
    sampler = Sampler(Sampling(), grammar=vocabulary.grammar(json.dumps(schema)))
    ids: list[int] = []
    while len(ids) < 400:
        ids.append(sampler.pick(torch.randn(decoder.num_tokens, generator=noise)))
        if ids[-1] in decoder.eos_ids:
            return str(decoder.tokenizer.decode(ids[:-1]))
    raise AssertionError(f"no end: {decoder.tokenizer.decode(ids)}")


@pytest.mark.parametrize("seed", range(5))
def test_noise_becomes_json_of_the_schema(
    vocabulary: Vocabulary, decoder: Decoder, seed: int
) -> None:
    jsonschema.validate(json.loads(answer(vocabulary, decoder, PERSON, seed)), PERSON)


def test_an_answer_ends_where_it_is_complete_and_not_before(
    vocabulary: Vocabulary, decoder: Decoder
) -> None:
    grammar = vocabulary.grammar('{"const": {"a": 1}}')
    assert grammar is not None
    ends = sorted(decoder.eos_ids)
    for token in decoder.tokenizer.encode('{"a": 1}', add_special_tokens=False):
        allowed = grammar.allowed(decoder.num_tokens)
        assert allowed[token] and not allowed[ends].any()
        grammar.took(token)
    allowed = grammar.allowed(decoder.num_tokens)
    assert allowed.sum() == allowed[ends].sum() > 0


def test_a_token_that_is_not_allowed_fails_its_own_answer(
    vocabulary: Vocabulary, decoder: Decoder
) -> None:
    grammar = vocabulary.grammar('{"type": "object"}')
    other = vocabulary.grammar('{"type": "object"}')
    assert isinstance(grammar, Grammar) and other is not None
    (letter,) = decoder.tokenizer.encode("x", add_special_tokens=False)
    with pytest.raises(UnavailableError, match="form of the answer"):
        grammar.took(letter)
    assert other.allowed(decoder.num_tokens).any()


def test_without_a_schema_there_is_no_grammar(vocabulary: Vocabulary) -> None:
    assert vocabulary.grammar("") is None


@pytest.mark.parametrize("schema", ['{"type": "nonsense"}', '{"$ref": "http://x/y"}', "[]", "x"])
def test_a_schema_that_cannot_be_followed_is_told(schema: str) -> None:
    assert problem(schema)
    assert not problem(json.dumps(PERSON))
