"""Kernels, graphs and loader on a CUDA device."""

from typing import Any

import pytest
import torch

from actors.engine.attention import How
from actors.engine.cuda import (
    CascadeLane,
    GraphConfig,
    GraphRunner,
    LayerLoader,
    PassInputs,
    cascade_attention,
    cascade_forward,
    cascade_reference,
)
from actors.engine.cuda.head import log_probs_of
from kvstore.types import Dtype, Layout
from tests.actors.engine.cuda.passes import TOLERANCE, difference, random_pass
from tests.gpu.rig import random_model

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device"),
]
CUDA = torch.device("cuda", 0)
LAYOUT = Layout(3, 1, 1, 64, "bfloat16")
FACTS: dict[str, Any] = {
    "hidden_size": 256,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 1,
    "head_dim": 64,
    "intermediate_size": 512,
    "vocab_size": 1000,
    "max_position_embeddings": 1024,
}


@pytest.fixture(scope="module")
def model() -> Any:
    return random_model(FACTS, "bfloat16", CUDA, seed=5)


def random_lanes(
    number: int, width: int, seed: int, device: torch.device = CUDA
) -> list[CascadeLane]:
    torch.manual_seed(seed)

    def kv(tokens: int) -> torch.Tensor:
        return torch.randn(3, 2, 1, tokens, 64).bfloat16().to(device)

    prefix = kv(9)
    return [
        CascadeLane([seed + n] * (1 + (width - 1) * (n % 2)), [prefix, kv(30 + 7 * n), kv(5)])
        for n in range(number)
    ]


@pytest.mark.parametrize("how", [How(0.1, None, None), How(0.1, 5.0, 40)])
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize(("head_dim", "kv_heads", "groups"), [(64, 3, 3), (128, 2, 4), (256, 1, 8)])
def test_kernel_equals_reference(
    head_dim: int, kv_heads: int, groups: int, dtype: Dtype, how: How
) -> None:
    lengths = [[24, 256, 15], [24, 1], [], [24, 63, 64], [0, 300, 15]]
    made = random_pass(lengths, [32, 7, 130, 1, 33], kv_heads, groups, head_dim, dtype, 1, CUDA)
    ours = cascade_attention(*made.qkv, made.parts, 1, how)
    assert difference(ours, cascade_reference(*made.qkv, made.parts, 1, how)) < TOLERANCE[dtype]


@pytest.mark.parametrize("cap", [None, 30.0])
def test_log_probs_equal_log_softmax(cap: float | None) -> None:
    torch.manual_seed(2)
    logits = 5 * torch.randn(70, 50_001, device=CUDA)
    targets = torch.randint(50_001, (70,), device=CUDA)
    wanted = logits if cap is None else cap * torch.tanh(logits / cap)
    wanted = wanted.log_softmax(-1).gather(1, targets[:, None])[:, 0]
    assert (log_probs_of(logits, targets, cap) - wanted).abs().max() < 1e-4


def test_graphs_compute_what_eager_passes_do(model: Any) -> None:
    """Two buckets in turn, more graphs than are kept, and one pass without a bucket."""
    config = GraphConfig(lanes=(2, 8), widths=(4, 16), max_graphs=2)

    def forward(inputs: PassInputs) -> torch.Tensor:
        return cascade_forward(model, inputs)

    graphs = GraphRunner(forward, LAYOUT, CUDA, config)
    eager = GraphRunner(forward, LAYOUT, CUDA, GraphConfig(lanes=(1,), widths=(1,)))
    for seed, (number, width) in enumerate([(2, 3), (7, 16), (2, 4), (1, 9), (8, 5), (9, 3)]):
        lanes = random_lanes(number, width, seed)
        ours, wanted = graphs.run(lanes), eager.run(lanes)
        for n, lane in enumerate(lanes):
            a, b = (x.states[x.starts[n] :][: len(lane.tokens)] for x in (ours, wanted))
            assert difference(a, b) < 0.1, (seed, n)
    assert len(graphs.shapes) == 2


def test_what_is_loaded_layer_by_layer_is_what_was_there(model: Any) -> None:
    """Passes one behind the other share the slots: none may read the next one's bytes."""
    loader, cpu = LayerLoader(LAYOUT, CUDA), torch.device("cpu")
    for seed in range(20):
        host = random_lanes(8, 6, seed, cpu)
        there = [CascadeLane(lane.tokens, [kv.to(CUDA) for kv in lane.segments]) for lane in host]
        loading = loader.begin([kv for lane in host for kv in lane.segments])
        slots = iter(loading.slots)
        lanes = [CascadeLane(lane.tokens, [next(slots) for _ in lane.segments]) for lane in host]
        ours = cascade_forward(model, PassInputs.packed(lanes, LAYOUT, CUDA), loading.wait)
        wanted = cascade_forward(model, PassInputs.packed(there, LAYOUT, CUDA))
        assert torch.equal(ours, wanted), "the same kernels over the same bytes"
