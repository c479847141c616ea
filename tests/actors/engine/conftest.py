"""The real small model, once a session, and tiny random decoders of every supported family."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from actors.engine import attention
from actors.engine.compute import ComputeSlot
from actors.engine.config import EngineConfig, ModelConfig, PromptConfig
from actors.engine.models import Decoder, load_decoder
from actors.engine.prompt import Prompt
from actors.engine.runtime import Runtime
from kvstore.config import StoreConfig
from kvstore.local import LocalStoreClient
from kvstore.store import KVStore
from kvstore.types import Layout

FAMILIES = ("llama", "qwen2", "qwen3", "gemma2", "gemma3_text", "mistral", "phi3")
_COMMON: dict[str, Any] = {
    "vocab_size": 128,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 256,
    "pad_token_id": 0,
}
_MIXED = ["sliding_attention", "full_attention", "sliding_attention"]
_WINDOWED: dict[str, dict[str, Any]] = {
    "qwen2": {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 1},
    "qwen3": {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 1},
    "gemma2": {"sliding_window": 8, "query_pre_attn_scalar": 12},
    "gemma3_text": {"sliding_window": 8, "query_pre_attn_scalar": 12},
    "mistral": {"sliding_window": 8},
    "phi3": {"sliding_window": 8},
    "cohere2": {"sliding_window": 8, "layer_types": _MIXED},
    "exaone4": {"sliding_window": 8, "layer_types": _MIXED},
    "gpt_oss": {"sliding_window": 8, "layer_types": _MIXED, "num_local_experts": 4},
    "smollm3": {"no_rope_layers": [1, 0, 1]},
}


@pytest.fixture(scope="session")
def decoder() -> Decoder:
    """SmolLM2-135M in fp32, where exactness is tested."""
    return load_decoder(ModelConfig(dtype="float32"))


@pytest.fixture(scope="session")
def decoder_bf16() -> Decoder:
    """The same in the precision it is served in."""
    return load_decoder(ModelConfig(dtype="bfloat16"))


@pytest.fixture(scope="session")
def prompt(decoder: Decoder) -> Prompt:
    return Prompt(decoder.tokenizer, PromptConfig())


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def build_tiny(family: str) -> Callable[[], tuple[Decoder, Any]]:
    """Our decoder and a stock model of the same random weights, windows of 8 where there are."""

    def build() -> tuple[Decoder, Any]:
        attention.register()
        torch.manual_seed(7)
        facts = AutoConfig.for_model(family, **_COMMON | _WINDOWED.get(family, {}))
        stock = AutoModelForCausalLM.from_config(facts, attn_implementation="eager").eval()
        again = AutoConfig.for_model(family, **_COMMON | _WINDOWED.get(family, {}))
        ours = AutoModelForCausalLM.from_config(again, attn_implementation=attention.NAME).eval()
        ours.load_state_dict(stock.state_dict())
        layout = Layout(3, 2, 1, 8, "float32")
        cpu = torch.device("cpu")
        decoder = Decoder("tiny", ours, None, cpu, "float32", layout, b"\0" * 32, frozenset(), 256)
        return decoder, stock

    return build


@pytest.fixture
def store(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[KVStore]:
    """A small real store: 256 MiB of DRAM, or the bytes that a test gives it, hold about 20
    passages of SmolLM2 in fp32."""
    config = StoreConfig(
        dram_bytes=getattr(request, "param", 256 * 2**20),
        dram_dir=str(tmp_path),
        ssd_dir=str(tmp_path / "ssd"),
        ssd_bytes=2**30,
    )
    kvstore = KVStore(config, node="test")
    yield kvstore
    kvstore.close()


@pytest.fixture
def client(store: KVStore, tmp_path: Path) -> Iterator[LocalStoreClient]:
    local = LocalStoreClient(store, str(tmp_path))
    yield local
    local.close()


@pytest.fixture
def slot(tmp_path: Path) -> ComputeSlot:
    return ComputeSlot(EngineConfig(compute_slot=False), str(tmp_path))


@pytest.fixture
def runtime(decoder: Decoder, prompt: Prompt, slot: ComputeSlot) -> Runtime:
    return Runtime(decoder, prompt, slot, threads=1)


@pytest.fixture
def runtime_bf16(decoder_bf16: Decoder, prompt: Prompt, slot: ComputeSlot) -> Runtime:
    return Runtime(decoder_bf16, prompt, slot, threads=1)
