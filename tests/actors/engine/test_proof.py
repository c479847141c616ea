"""A model is computed as transformers computes it, or refused by name before it serves."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from actors.engine import head, proof
from actors.engine.attention import How
from actors.engine.models import Decoder, load_decoder
from actors.engine.packed import Batch
from actors.errors import UnavailableError, UnsupportedModelError
from tests.actors.training.tiny import save_tiny


def test_the_log_has_the_figures_of_a_model_that_is_proven(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "actors.engine.proof")
    decoder = load_decoder(save_tiny("llama", tmp_path))
    (line,) = (record.getMessage() for record in caplog.records if "proven" in record.getMessage())
    assert "(llama, float32) is proven against transformers on 48 tokens" in line
    assert "in one pass" in line and "over stored KV" in line and "token by token" in line
    assert (decoder.layout.num_layers, decoder.layout.num_kv_heads) == (2, 2)


def test_a_head_without_its_scale_is_refused_with_the_figure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = save_tiny("granite", tmp_path, logits_scaling=8.0)
    assert load_decoder(model).name
    monkeypatch.setattr(head, "_scale", lambda facts: 1.0)
    with pytest.raises(UnsupportedModelError, match="'granite' is refused.*share: 7 in one pass"):
        load_decoder(model)


def test_attention_without_sinks_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kinds = ["full_attention", "sliding_attention"]
    model = save_tiny("gpt_oss", tmp_path, num_local_experts=4, layer_types=kinds)
    assert load_decoder(model).name
    attend = Batch.attend

    def without(self: Any, layer: int, q: Any, k: Any, v: Any, how: How) -> Any:
        return attend(self, layer, q, k, v, how._replace(sinks=None))

    monkeypatch.setattr(Batch, "attend", without)
    with pytest.raises(UnsupportedModelError, match="'gpt_oss' is refused: its logits"):
        load_decoder(model)


def test_a_layer_that_does_not_say_how_far_it_looks_back_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A short text does not reach the end of the window."""
    kinds = ["sliding_attention"] * 2
    model = save_tiny("mistral", tmp_path, sliding_window=512, layer_types=kinds)
    assert load_decoder(model).name

    def blind(self: Any, layer: int, q: Any, k: Any, v: Any, how: How) -> Any:
        self.windows[layer] = None
        return self.batch.attend(layer, q, k, v, how)

    monkeypatch.setattr(proof._Watched, "attend", blind)
    with pytest.raises(UnsupportedModelError, match="layer 0 is of sliding_attention.*window None"):
        load_decoder(model)


def test_kv_that_cannot_be_split_is_refused(tmp_path: Path) -> None:
    """DiffLlama gives the right logits in one pass, and others over its own stored KV."""
    with pytest.raises(UnsupportedModelError, match="'diffllama'.*over stored KV") as caught:
        load_decoder(save_tiny("diffllama", tmp_path))
    assert isinstance(caught.value, UnavailableError)
    assert "MODELS.md" in caught.value.remedy


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_rounding_of_lower_precision_is_no_difference(tmp_path: Path, dtype: Any) -> None:
    decoder: Decoder = load_decoder(replace(save_tiny("qwen3", tmp_path), dtype=dtype))
    assert decoder.model.dtype == getattr(torch, dtype)
