from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from actors.engine.attention import How
from actors.engine.cuda import (
    CascadeLane,
    CascadeParts,
    LayerLoader,
    PassInputs,
    cascade_attention,
    cascade_forward,
    cascade_reference,
)
from actors.engine.device.staging import Staging
from actors.engine.models import Decoder
from tests.actors.engine.cuda.passes import CPU
from tests.actors.engine.logged_streams import LoggedStreams

PREFIX, PASSAGES, SUFFIX = [5, 6, 7], ([9] * 12, [11, 12], [8] * 5), [3, 4]
QUESTIONS = ([21, 22, 23], [24], [25, 26, 27, 28, 29, 30])


def stored(
    decoder: Decoder, attention: Callable[[Tensor, Tensor, Tensor, CascadeParts, int, How], Tensor]
) -> list[list[Tensor]]:
    """KV of prefix, passage and suffix of every candidate, each computed over those before it."""
    prefix = decoder.empty_kv(len(PREFIX))
    lanes = [CascadeLane(PREFIX, [], [prefix])]
    cascade_forward(
        decoder.model, PassInputs.packed(lanes, decoder.layout, CPU), attention=attention
    )
    segments = [[prefix] for _ in PASSAGES]
    for pieces in (PASSAGES, [SUFFIX] * len(PASSAGES)):
        sinks = [decoder.empty_kv(len(piece)) for piece in pieces]
        lanes = [
            CascadeLane(piece, list(past), [sink])
            for piece, past, sink in zip(pieces, segments, sinks, strict=True)
        ]
        cascade_forward(
            decoder.model, PassInputs.packed(lanes, decoder.layout, CPU), attention=attention
        )
        for past, sink in zip(segments, sinks, strict=True):
            past.append(sink)
    return segments


def check_against_stock(
    decoder: Decoder,
    stock: Any,
    attention: Callable[[Tensor, Tensor, Tensor, CascadeParts, int, How], Tensor],
) -> None:
    """Questions over stored KV that comes layer by layer, against one pass over everything."""
    segments = stored(decoder, attention)
    loader = LayerLoader(decoder.layout, CPU, LoggedStreams(), Staging(CPU).gather)
    loading = loader.begin([kv for past in segments for kv in past[1:]])
    slots = iter(loading.slots)
    lanes = [
        CascadeLane(question, [past[0], next(slots), next(slots)])
        for question, past in zip(QUESTIONS, segments, strict=True)
    ]
    inputs = PassInputs.packed(lanes, decoder.layout, CPU)
    hidden = cascade_forward(decoder.model, inputs, loading.wait, attention)
    for n, start in enumerate(inputs.starts):
        ids = [*PREFIX, *PASSAGES[n], *SUFFIX, *QUESTIONS[n]]
        with torch.inference_mode():
            wanted = stock.get_decoder()(torch.tensor([ids])).last_hidden_state[0]
        own = slice(start, start + len(QUESTIONS[n]))
        assert (hidden[own] - wanted[-len(QUESTIONS[n]) :]).abs().max() < 1e-4


def test_every_family_over_stored_parts_equals_one_pass(
    build_tiny: Callable[[], tuple[Decoder, Any]],
) -> None:
    check_against_stock(*build_tiny(), cascade_reference)


@pytest.mark.usefixtures("interpreter")
@pytest.mark.parametrize("family", ["gemma2"], indirect=True)
def test_the_kernel_in_a_model_with_window_and_softcap(
    build_tiny: Callable[[], tuple[Decoder, Any]],
) -> None:
    check_against_stock(*build_tiny(), cascade_attention)
