"""A random reranker on a device, and what of the engine differs between a GPU and a CPU."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM

from actors.engine import attention
from actors.engine.cuda import (
    CascadeLane,
    CudaRunner,
    GraphRunner,
    LayerLoader,
    PassInputs,
    cascade_forward,
    target_log_probs,
)
from actors.engine.cuda.cascade import cascade_attention
from actors.engine.cuda.forward import Attention
from actors.engine.models import TORCH_DTYPES, Decoder
from kvstore.types import Dtype, Layout

GEMMA_2B: dict[str, Any] = {
    "hidden_size": 2048,
    "num_hidden_layers": 18,
    "num_attention_heads": 8,
    "num_key_value_heads": 1,
    "head_dim": 256,
    "intermediate_size": 16384,
    "vocab_size": 256000,
    "max_position_embeddings": 8192,
}


@dataclass(frozen=True, slots=True)
class Rig:
    model: Any
    layout: Layout
    device: torch.device
    attention: Attention
    log_probs: Callable[[Any, Tensor, Tensor], Tensor]
    loader: LayerLoader
    graphs: GraphRunner

    def eager(
        self, lanes: Sequence[CascadeLane], wait: Callable[[int], None] | None = None
    ) -> tuple[Tensor, list[int]]:
        """Last hidden states of a packed pass, and the first row of each lane."""
        inputs = PassInputs.packed(lanes, self.layout, self.device)
        return cascade_forward(self.model, inputs, wait, self.attention), inputs.starts

    def empty_kv(self, num_tokens: int) -> Tensor:
        layout = self.layout
        shape = (layout.num_layers, 2, layout.num_kv_heads, num_tokens, layout.head_dim)
        return torch.empty(shape, dtype=TORCH_DTYPES[layout.dtype], device=self.device)


QWEN2_7B: dict[str, Any] = {
    "hidden_size": 3584,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "intermediate_size": 18944,
    "vocab_size": 152064,
    "max_position_embeddings": 32768,
}


def random_model(
    facts: dict[str, Any], dtype: Dtype, device: torch.device, seed: int, family: str = "gemma"
) -> Any:
    """A model of this family and shape, its weights made on the device."""
    attention.register()
    torch.manual_seed(seed)
    with torch.device(device):
        config = AutoConfig.for_model(family, **facts)
        model = AutoModelForCausalLM.from_config(
            config, dtype=TORCH_DTYPES[dtype], attn_implementation=attention.NAME
        )
    return model.to(device).eval()


def cuda_rig(seed: int) -> Rig:
    """Gemma-2B's shape in bf16 on the current CUDA device."""
    device = torch.device("cuda", torch.cuda.current_device())
    model = random_model(GEMMA_2B, "bfloat16", device, seed)
    layout = Layout(18, 1, 1, 256, "bfloat16")
    graphs = GraphRunner(lambda inputs: cascade_forward(model, inputs), layout, device)
    loader = LayerLoader(layout, device)
    return Rig(model, layout, device, cascade_attention, target_log_probs, loader, graphs)


def random_decoder(facts: dict[str, Any], device: torch.device, seed: int) -> Decoder:
    """Qwen2 of this shape in bf16 behind the engine's interface; it has no tokenizer."""
    model = random_model(facts, "bfloat16", device, seed, family="qwen2")
    head_dim = facts["hidden_size"] // facts["num_attention_heads"]
    num_layers, kv_heads = facts["num_hidden_layers"], facts["num_key_value_heads"]
    layout = Layout(num_layers, kv_heads, 1, head_dim, "bfloat16")
    return Decoder(
        name="random",
        model=model,
        tokenizer=None,
        device=device,
        dtype="bfloat16",
        layout=layout,
        fingerprint=b"random",
        eos_ids=frozenset(),
        max_positions=facts["max_position_embeddings"],
        cuda=CudaRunner(model, layout, device) if device.type == "cuda" else None,
    )


def parameters(model: Any) -> int:
    """Those that take part in matrix products of every row: without the embedding table."""
    return sum(math.prod(p.shape) for p in model.get_decoder().layers.parameters())


def plain_log_probs(model: Any, hidden: Tensor, targets: Tensor) -> Tensor:
    """`target_log_probs` where there is no triton."""
    with torch.inference_mode():
        every: Tensor = model.lm_head(hidden).float().log_softmax(-1)
    return every.gather(1, targets[:, None])[:, 0]
