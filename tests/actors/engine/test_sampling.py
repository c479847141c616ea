import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.engine.models import Decoder
from actors.engine.sampling import Sampler, TextStream, validate
from actors.errors import RequestError
from actors.messages import Sampling


@pytest.mark.parametrize(
    ("sampling", "field"),
    [
        (Sampling(max_tokens=0), "max_tokens"),
        (Sampling(max_tokens=101), "max_tokens"),
        (Sampling(temperature=-0.1), "temperature"),
        (Sampling(temperature=float("nan")), "temperature"),
        (Sampling(top_p=0.0), "top_p"),
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
