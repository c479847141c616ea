import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from actors.engine.models import Decoder
from actors.engine.sampling import Sampler, TextStream, validate
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
        (Sampling(stop=("x",) * 17), "stop"),
    ],
)
def test_settings_out_of_bounds_are_named(sampling: Sampling, field: str) -> None:
    with pytest.raises(RequestError) as error:
        validate(sampling, max_new_tokens=100)
    assert error.value.field == field


def test_greedy_takes_the_largest() -> None:
    assert Sampler(Sampling()).pick(torch.tensor([0.0, 3.0, 2.0])) == 1


def test_a_seed_repeats_its_draws_and_another_does_not() -> None:
    logits = torch.zeros(1000)

    def draws(seed: int) -> list[int]:
        sampler = Sampler(Sampling(temperature=1.0, seed=seed))
        return [sampler.pick(logits) for _ in range(8)]

    assert draws(1) == draws(1) != draws(2)


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
    validate(Sampling(seed=seed), max_new_tokens=100)
    assert Sampler(Sampling(temperature=1.0, seed=seed)).pick(torch.zeros(9)) in range(9)
