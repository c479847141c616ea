"""The scenario at a tiny shape: all tokens computed again is full attention's first token."""

from typing import Any

import pytest
import torch

from actors.engine.config import FusionConfig
from actors.engine.fusion.rotation import Rotation
from actors.engine.fusion.rules import create_selection
from tests.gpu import fusion
from tests.gpu.rig import random_decoder

TINY: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 64,
    "vocab_size": 128,
    "max_position_embeddings": 256,
}


def test_everything_computed_again_is_the_full_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("PREFIX", 8), ("PASSAGE", 16), ("QUESTION", 4)):
        monkeypatch.setattr(fusion, name, value)
    decoder = random_decoder(TINY, torch.device("cpu"), seed=3)
    rotation = Rotation.of(decoder)
    selection = create_selection(FusionConfig(), decoder, rotation)
    prompt = fusion.Prompt(decoder, rotation, 8 + 2 * 16 + 4, seed=1)
    assert len(prompt.tokens) == 44
    full = fusion.full_pass(decoder, prompt).log_softmax(-1)
    assert torch.isfinite(full).all()
    for ratio in (1.0, 0.3):
        ours = prompt.first_token(selection, ratio).log_softmax(-1)
        assert ours.shape == full.shape and torch.isfinite(ours).all()
