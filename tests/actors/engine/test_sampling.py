from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from actors.engine.models import Decoder
from actors.engine.sampling import Sampler, TextStream, validate
from actors.engine.shaping import Shaping
from actors.errors import RequestError, UnavailableError
from actors.messages import Sampling
from tests.actors.engine.speaking import byte_fallback


@pytest.mark.parametrize(
    ("sampling", "field"),
    [
        (Sampling(max_tokens=0), "max_tokens"),
        (Sampling(max_tokens=101), "max_tokens"),
        (Sampling(temperature=-0.1), "temperature"),
        (Sampling(temperature=float("nan")), "temperature"),
        (Sampling(top_p=0.0), "top_p"),
        (Sampling(seed=2**64), "seed"),
        (Sampling(seed=-(2**63) - 1), "seed"),
        (Sampling(stop=("",)), "stop"),
        (Sampling(top_k=-1), "top_k"),
        (Sampling(min_p=1.1), "min_p"),
        (Sampling(repetition_penalty=0.0), "repetition_penalty"),
        (Sampling(presence_penalty=2.1), "presence_penalty"),
        (Sampling(frequency_penalty=float("nan")), "frequency_penalty"),
        (Sampling(logit_bias=((1000, 1.0),)), "logit_bias"),
        (Sampling(logit_bias=((1, 101.0),)), "logit_bias"),
        (Sampling(logprobs=21), "top_logprobs"),
        (Sampling(stop=("x",) * 17), "stop"),
    ],
)
def test_settings_out_of_bounds_are_named(sampling: Sampling, field: str) -> None:
    with pytest.raises(RequestError) as error:
        validate(sampling, max_new_tokens=100, num_tokens=1000)
    assert error.value.field == field


def test_greedy_takes_the_largest() -> None:
    assert Sampler(Sampling()).pick(torch.tensor([0.0, 3.0, 2.0])) == 1


def test_a_seed_repeats_its_draws_and_another_does_not() -> None:
    logits = torch.zeros(1000)

    def draws(seed: int) -> list[int]:
        sampler = Sampler(Sampling(temperature=1.0, seed=seed))
        return [sampler.pick(logits) for _ in range(8)]

    assert draws(1) == draws(1) != draws(2)


def _drawn(sampling: Sampling, logits: list[float], num: int = 200) -> set[int]:
    sampler = Sampler(replace(sampling, temperature=1.0, seed=0))
    return {sampler.pick(torch.tensor(logits)) for _ in range(num)}


def test_top_k_and_min_p_leave_out_what_is_less_likely() -> None:
    logits = [1.0, 3.0, 2.9, 2.8, -1.0]
    assert _drawn(Sampling(top_k=2), logits) == {1, 2}
    assert _drawn(Sampling(top_k=1), logits) == {1}
    assert _drawn(Sampling(min_p=0.5), logits) == {1, 2, 3}
    assert _drawn(Sampling(min_p=0.5, top_k=4, top_p=0.3), logits) == {1}
    assert len(_drawn(Sampling(top_p=0.4, top_k=2), [1.0] * 4)) == 1, "top_p of the two alone"
    assert _drawn(Sampling(), logits, num=2000) == {0, 1, 2, 3, 4}


def test_a_bias_bans_a_token_and_forces_another() -> None:
    logits = torch.tensor([1.0, 5.0, 2.0])
    assert Sampler(Sampling(logit_bias=((1, -100.0),))).pick(logits) == 2
    assert Sampler(Sampling(logit_bias=((0, 100.0),))).pick(logits) == 0


def test_penalties_are_those_of_the_formulas() -> None:
    logits = torch.tensor([2.0, 1.0, -1.0, 0.0])
    sampling = Sampling(repetition_penalty=2.0, frequency_penalty=0.5, presence_penalty=0.25)
    shaping = Shaping(sampling, prompt=[1, 2])
    assert shaping.shaped(logits).tolist() == [2.0, 0.5, -2.0, 0.0]
    for token in (0, 0, 3):
        shaping.took(token)
    assert shaping.shaped(logits).tolist() == [1.0 - 1.25, 0.5, -2.0, -0.75]
    assert logits.tolist() == [2.0, 1.0, -1.0, 0.0], "rows of others stand beside them"
    assert Shaping.of(Sampling(temperature=1.0, top_k=3, min_p=0.1, logprobs=2), []) is None


def test_greedy_with_a_penalty_goes_on_to_the_next() -> None:
    logits = torch.tensor([2.0, 1.8, 1.7])
    sampler = Sampler(Sampling(presence_penalty=0.5))
    assert [sampler.pick(logits) for _ in range(4)] == [0, 1, 2, 0]
    assert [Sampler(Sampling(repetition_penalty=1.5), [0]).pick(logits)] == [1]


def test_log_probabilities_are_the_models_own() -> None:
    logits = torch.tensor([2.0, 1.0, 0.0])
    sampler = Sampler(Sampling(logit_bias=((2, 100.0),), logprobs=2))
    assert sampler.pick(logits) == 2
    (told,) = sampler.taken()
    own = logits.log_softmax(-1).tolist()
    assert told.token == 2 and told.logprob == pytest.approx(own[2])
    assert [token for token, _ in told.top] == [0, 1]
    assert [value for _, value in told.top] == pytest.approx(own[:2])
    assert sampler.taken() == []
    plain = Sampler(Sampling())
    plain.pick(logits)
    assert plain.taken() == []


def test_top_p_leaves_out_the_tail() -> None:
    logits = torch.tensor([5.0, 4.9, -5.0, -5.0])
    sampler = Sampler(Sampling(temperature=1.0, top_p=0.9, seed=0))
    assert {sampler.pick(logits) for _ in range(200)} == {0, 1}


@pytest.mark.parametrize("top_p", [1e-46, 5e-324, 1e-30])
def test_the_smallest_top_p_leaves_the_most_likely(top_p: float) -> None:
    """Below 1.4e-45 it is 0 as a float32."""
    sampler = Sampler(Sampling(temperature=1.0, top_p=top_p, seed=0))
    assert {sampler.pick(torch.tensor([4.9, 5.0, -5.0])) for _ in range(20)} == {1}


@settings(max_examples=60)
@given(text=st.text(max_size=40), stops=st.lists(st.text(min_size=1, max_size=4), max_size=3))
def test_streamed_text_is_the_text_before_the_first_stop(
    decoder: Decoder, text: str, stops: list[str]
) -> None:
    tokenizer = decoder.tokenizer.backend_tokenizer
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    whole = tokenizer.decode(ids)
    stream = TextStream(tokenizer, stops)
    sent = ""
    for token in ids:
        sent += stream.push(token)
        assert not any(stop in sent for stop in stops)
        if stream.stopped:
            break
    else:
        sent += stream.flush()
    cut = [i for stop in stops if (i := whole.find(stop)) >= 0]
    assert sent == (whole[: min(cut)] if cut else whole)


def _streamed(tokenizer: Tokenizer, ids: list[int]) -> str:
    stream = TextStream(tokenizer, ())
    return "".join(stream.push(token) for token in ids) + stream.flush()


def test_bytes_that_are_no_text_are_replaced_and_the_text_goes_on() -> None:
    """C3 98 is a letter; with 9F behind it the decoder takes all three for broken."""
    tokenizer = byte_fallback().backend_tokenizer
    ids = [1 + 0xC3, 1 + 0x98, 1 + 0x9F, 257, 258, 259]
    assert _streamed(tokenizer, ids) == "Ø\ufffd\ufffd中 suns"


@given(st.lists(st.integers(1, 259), max_size=30))
def test_any_bytes_can_be_streamed_and_what_follows_is_read(ids: list[int]) -> None:
    tokenizer = byte_fallback().backend_tokenizer
    assert _streamed(tokenizer, [*ids, 257, 258, 259]).endswith("中 suns")


@given(st.text(max_size=30))
def test_text_in_bytes_is_the_text(text: str) -> None:
    ids = [1 + byte for byte in text.encode()]
    assert _streamed(byte_fallback().backend_tokenizer, ids) == text.removeprefix(" ")


@pytest.mark.parametrize("temperature", [1e-45, 3.1e-38, 1e-6, 1e-4, 0.01])
def test_a_temperature_next_to_nothing_takes_the_largest(temperature: float) -> None:
    sampler = Sampler(Sampling(temperature=temperature, seed=0))
    assert [sampler.pick(torch.tensor([0.0, 30.0, 29.0, -40.0])) for _ in range(9)] == [1] * 9


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_logits_that_are_no_numbers_are_an_error(temperature: float) -> None:
    sampler = Sampler(Sampling(temperature=temperature, seed=0))
    with pytest.raises(UnavailableError, match="not finite"):
        sampler.pick(torch.tensor([0.0, float("nan"), 2.0]))


@pytest.mark.parametrize("seed", [-(2**63), 2**64 - 1])
def test_every_seed_that_is_allowed_can_be_used(seed: int) -> None:
    validate(Sampling(seed=seed), max_new_tokens=100, num_tokens=1000)
    assert Sampler(Sampling(temperature=1.0, seed=seed)).pick(torch.zeros(9)) in range(9)
