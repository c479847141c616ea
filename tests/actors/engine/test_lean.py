import resource
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    LlamaConfig,
    PretrainedConfig,
    Qwen3Config,
)

from actors.engine.lean import LeanRMSNorm, LeanSwiGLU, keep_freed_memory, make_lean

SHAPE = {
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "vocab_size": 100,
}


def made(config: PretrainedConfig, dtype: torch.dtype) -> Any:
    torch.manual_seed(7)
    model = AutoModelForCausalLM.from_config(config, dtype=dtype).eval()
    for name, parameter in model.named_parameters():
        if "norm" in name:  # a weight of ones would hide where it is applied
            torch.nn.init.normal_(parameter, mean=1.0, std=0.3)
    return model


@torch.inference_mode()
def hidden(model: Any) -> Tensor:
    ids = torch.arange(600)[None] % 100
    found: Tensor = model.get_decoder()(input_ids=ids).last_hidden_state
    return found


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize(
    ("config", "replaced"),
    [
        (LlamaConfig(**SHAPE), 2 * (2 + 1) + 1),
        (Qwen3Config(**SHAPE), 2 * (4 + 1) + 1),  # it norms queries and keys as well
        (Gemma2Config(**SHAPE), 0),  # weight + 1, and GELU
    ],
    ids=["llama", "qwen3", "gemma2"],
)
def test_not_a_bit_changes(config: PretrainedConfig, replaced: int, dtype: torch.dtype) -> None:
    model = made(config, dtype)
    names = [name for name, _ in model.named_parameters()]
    expected = hidden(model)
    assert make_lean(model) == replaced
    assert torch.equal(hidden(model), expected)
    assert [name for name, _ in model.named_parameters()] == names


def test_more_rows_than_a_block_and_strided_ones_give_the_same_bits() -> None:
    norm = made(LlamaConfig(**SHAPE), torch.bfloat16).get_decoder().norm
    x = torch.randn(2, 3000, 96).bfloat16()[..., ::2]
    with torch.inference_mode():
        assert torch.equal(LeanRMSNorm(norm)(x), norm(x))


def test_input_is_left_alone() -> None:
    layer = made(LlamaConfig(**SHAPE), torch.float32).get_decoder().layers[0]
    x = torch.randn(1, 9, 48)
    kept = x.clone()
    with torch.inference_mode():
        LeanRMSNorm(layer.input_layernorm)(x)
        LeanSwiGLU(layer.mlp)(x)
    assert torch.equal(x, kept)


def test_a_gate_that_computes_something_else_stays() -> None:
    model = made(LlamaConfig(**SHAPE, hidden_act="gelu"), torch.float32)
    before = deepcopy(model)
    make_lean(model)
    assert torch.equal(hidden(model), hidden(before))
    assert not any(isinstance(module, LeanSwiGLU) for module in model.modules())


def test_memory_of_a_pass_is_not_faulted_in_again() -> None:
    keep_freed_memory()

    def faults() -> int:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for _ in range(10):
            torch.ones(8 << 20).add_(1)  # 32 MiB, 8,192 pages
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

    faults()
    assert faults() < 8192
