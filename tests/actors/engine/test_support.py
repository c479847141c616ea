"""What a configuration tells is refused before a weight is read."""

from pathlib import Path
from typing import Any

import pytest
from transformers import AutoConfig, GenerationConfig

from actors.engine.config import ModelConfig
from actors.engine.models import load_decoder
from actors.engine.support import refuse_unsupported, unfollowed
from actors.errors import UnsupportedModelError
from tests.actors.training.tiny import toy_tokenizer

HYBRID = ["full_attention", "conv"]
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "deepseek_v2": ({}, "latent attention"),
    "deepseek_v3": ({}, "latent attention"),
    "llama4_text": ({}, "chunked attention"),
    "lfm2": ({"num_hidden_layers": 2, "layer_types": HYBRID}, "layers of conv"),
    "falcon_h1": ({}, "state-space"),
    "minimax": ({}, "layers of linear_attention"),
    "qwen3_next": ({}, "state-space"),
    "gemma4_text": ({}, "several shapes"),
    "falcon": ({}, "attention is its own"),
    "mpt": ({}, "attention is its own"),
    "mamba": ({}, "state-space"),
    "doge": ({}, "dynamic masks"),
    "t5": ({}, "no causal language model"),
    "bart": ({}, "an encoder and a decoder"),
    "llama": (
        {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}},
        "dynamic RoPE",
    ),
}


@pytest.mark.parametrize("family", REFUSED)
def test_kinds_that_are_not_computed_are_refused_without_weights(
    family: str, tmp_path: Path
) -> None:
    more, reason = REFUSED[family]
    AutoConfig.for_model(family, **more).save_pretrained(tmp_path)
    toy_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(UnsupportedModelError, match=f"'{family}' is refused: .*{reason}.*MODELS"):
        load_decoder(ModelConfig(source=str(tmp_path), device="cpu"))


def test_settings_of_generation_that_are_not_followed_are_named() -> None:
    plain = GenerationConfig(temperature=0.6, top_p=0.9, eos_token_id=[1, 2], max_new_tokens=9)
    assert unfollowed(plain) == {} == unfollowed(None)
    assert unfollowed(
        GenerationConfig(repetition_penalty=1.1, no_repeat_ngram_size=3, suppress_tokens=[5])
    ) == {"repetition_penalty": 1.1, "no_repeat_ngram_size": 3, "suppress_tokens": [5]}


def test_rope_of_one_kind_of_layer_counts_too() -> None:
    facts = AutoConfig.for_model("gemma3_text")
    refuse_unsupported(facts)
    facts.rope_parameters["full_attention"]["rope_type"] = "longrope"
    with pytest.raises(UnsupportedModelError, match="longrope RoPE"):
        refuse_unsupported(facts)
