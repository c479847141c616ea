"""MODELS.md says what becomes of every type of model that transformers has."""

from typing import Any

import pytest
import torch

from actors.engine.merged import MergedAttention
from tests.bench.model_families.table import read_table, said
from tests.bench.model_families.tiny import LAYERS, tiny_facts, tiny_model
from tests.bench.model_families.verdict import model_types, store_client, verdict_of


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_table_has_the_verdict_of_every_type() -> None:
    table = read_table()
    assert sorted(table) == model_types()
    found = {name: said(verdict_of(name)) for name in model_types()}
    wrong = {name: (table[name], found[name]) for name in found if found[name] != table[name]}
    assert not wrong, "write it anew: python -m tests.bench model_families --table"


@pytest.mark.filterwarnings("ignore")
def test_what_loading_lets_pass_is_compared_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a window that ends one key too late, which no short text shows to the self-test."""
    with store_client() as checked:
        assert verdict_of("mistral", checked=checked).kind == "exact"

        def late(self: MergedAttention, layer: int, *qkv: Any) -> torch.Tensor:
            *tensors, how = qkv
            window = how.window and how.window + 1
            found: torch.Tensor = attend(self, layer, *tensors, how._replace(window=window))
            return found

        attend: Any = MergedAttention.attend
        monkeypatch.setattr(MergedAttention, "attend", late)
        monkeypatch.setattr("actors.engine.models.prove", lambda decoder, stock: None)
        assert verdict_of("mistral", checked=checked).kind == "silently_wrong"


def test_a_tiny_model_keeps_a_layer_of_every_kind() -> None:
    facts = tiny_facts("gemma3_text")
    assert len(facts.layer_types) == facts.num_hidden_layers == LAYERS
    assert set(facts.layer_types) == {"sliding_attention", "full_attention"}
    assert facts.sliding_window == 8
    facts = tiny_facts("smollm3")
    assert set(facts.no_rope_layers) == {0, 1}


def test_its_weights_are_the_same_for_a_seed_and_no_norm_is_all_ones() -> None:
    one, same, other = (tiny_model("llama", seed) for seed in (1, 1, 2))
    assert torch.equal(one.lm_head.weight, same.lm_head.weight)
    assert not torch.equal(one.lm_head.weight, other.lm_head.weight)
    assert (one.model.norm.weight - 1).abs().max() > 0.1
