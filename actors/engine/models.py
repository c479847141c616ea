"""Loading a decoder-only model and its tokenizer, and one forward pass over a packed batch."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from actors.engine import attention
from actors.engine.cache import PackedCache, RowBatch
from actors.engine.config import ModelConfig
from actors.engine.fingerprint import fingerprint
from actors.engine.head import Head
from actors.engine.invariant import InvariantProducts, attention_is_invariant
from actors.engine.lean import keep_freed_memory, make_lean
from actors.engine.proof import MODEL_ERRORS, layout_of, prove, stock_logits
from actors.engine.support import refuse_unsupported, unfollowed
from actors.engine.weights import prepare
from actors.errors import UnavailableError
from kvstore.types import Dtype, Layout

if TYPE_CHECKING:  # it imports this module
    from actors.engine.cuda.runner import CudaRunner

logger = logging.getLogger(__name__)

TORCH_DTYPES: dict[Dtype, torch.dtype] = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


def pick_device(wanted: str) -> torch.device:
    if wanted == "cuda" and not torch.cuda.is_available():
        raise UnavailableError("device cuda is configured, but torch sees no CUDA device")
    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(wanted)


def pick_dtype(wanted: Dtype | Literal["auto"], device: torch.device) -> Dtype:
    """bfloat16 where the device multiplies in it; emulation on other CPUs is slower than fp32."""
    if wanted != "auto":
        return wanted
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported() else "float16"
    return "bfloat16" if torch.cpu._is_amx_tile_supported() or _avx512_bf16() else "float32"


def _avx512_bf16() -> bool:
    return bool(torch.cpu._is_avx512_bf16_supported())


@dataclass(slots=True)
class Decoder:
    """A causal language model that computes over stored KV. Not thread-safe: one engine thread."""

    name: str
    model: Any
    tokenizer: Any
    device: torch.device
    dtype: Dtype
    layout: Layout
    """Of one token; `num_tokens` is 1."""
    fingerprint: bytes
    eos_ids: frozenset[int]
    max_positions: int
    folder: Path | None = None
    """Of the weights; None for a model that was made in memory."""
    cuda: "CudaRunner | None" = None
    """On a GPU."""
    products: InvariantProducts | None = None

    @property
    def num_tokens(self) -> int:
        """Of the vocabulary: how many logits there are."""
        return len(self.model.get_output_embeddings().weight)

    def empty_kv(self, num_tokens: int) -> Tensor:
        """Uninitialised KV [L, 2, Hkv, num_tokens, dh]."""
        shape = (self.layout.num_layers, 2, self.layout.num_kv_heads, num_tokens)
        return torch.empty(
            *shape, self.layout.head_dim, dtype=TORCH_DTYPES[self.dtype], device=self.device
        )

    def sink(self, extent: Tensor | None, num_tokens: int) -> Tensor:
        """Where a pass writes new KV: the store's extent itself on a CPU, else a fresh tensor."""
        if extent is not None and self.device.type == "cpu":
            return extent
        return self.empty_kv(num_tokens)

    @torch.inference_mode()
    def forward(self, batch: RowBatch) -> Tensor:
        """Last hidden states [R, d] of all new tokens, in order; their KV is kept. Raises
        LayerLostError when the batch's `arrive` says so."""
        if self.cuda is not None and self.cuda.takes(batch):
            return self.cuda.forward(batch)
        if self.products is not None:
            self.products.wanted = batch.invariant
        return forward(self.model, batch)

    @property
    def invariant(self) -> bool:
        """Whether a pass can be `Batch.invariant`."""
        return self.products is not None

    def make_invariant(self) -> None:
        """Make passes batch-invariant where it takes that for reuse to be exact: on a CPU in 16-bit
        types, in which the last bit of a sum decides the order of two candidates. Some seconds."""
        if self.products is None and self.device.type == "cpu" and self.dtype != "float32":
            heads, shape = self.model.config.num_attention_heads, self.layout
            dtype = TORCH_DTYPES[self.dtype]
            if attention_is_invariant(heads, shape.num_kv_heads, shape.head_dim, dtype):
                self.products = InvariantProducts.of(self.model.get_decoder())
            else:
                logger.warning("attention is not batch-invariant here: reuse rounds")

    @torch.inference_mode()
    def logits(self, hidden: Tensor) -> Tensor:
        """[R, vocabulary] in fp32, of hidden states [R, d]."""
        return Head.of(self.model).logits(hidden)

    @torch.inference_mode()
    def log_probs(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """log Pr of targets [R] at hidden states [R, d], fp32; never all logits at once."""
        if self.cuda is not None:
            return self.cuda.log_probs(hidden, targets)
        return Head.of(self.model).log_probs(hidden, targets)

    @torch.inference_mode()
    def token_logits(self, hidden: Tensor, tokens: Sequence[int]) -> Tensor:
        """Logits [R, len(tokens)] of a few tokens at hidden states [R, d], in fp32 throughout."""
        return Head.of(self.model).token_logits(hidden, tokens)


def forward(model: Any, batch: RowBatch) -> Tensor:
    """Last hidden states [R, d] of a model of transformers that has our attention."""
    ids = torch.tensor([batch.token_ids()], device=model.device)
    positions = torch.tensor([batch.position_ids()], device=model.device)
    hidden: Tensor = model.get_decoder()(
        input_ids=ids, position_ids=positions, past_key_values=PackedCache(batch)
    ).last_hidden_state
    return hidden[0, : batch.num_new]


def load_decoder(config: ModelConfig) -> Decoder:
    """Load weights, tokenizer and configuration, and prove that they are computed exactly. Raises
    UnavailableError with the remedy, UnsupportedModelError for what would not be exact."""
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    attention.register()
    folder = prepare(config.source, config.cache_dir)
    device = pick_device(config.device)
    dtype = pick_dtype(config.dtype, device)
    try:
        facts = AutoConfig.from_pretrained(folder)
        refuse_unsupported(facts)
        tokenizer = AutoTokenizer.from_pretrained(folder)
        model = AutoModelForCausalLM.from_pretrained(
            folder, config=facts, dtype=TORCH_DTYPES[dtype], attn_implementation="eager"
        )
    except (OSError, *MODEL_ERRORS) as error:
        raise UnavailableError(f"model {config.source!r} does not load: {error}") from error
    model = model.to(device).eval()
    stock = stock_logits(model, tokenizer)
    model.set_attn_implementation(attention.NAME)
    if device.type == "cpu":
        make_lean(model)
        keep_freed_memory()
    layout = layout_of(model, stock, dtype)
    decoder = Decoder(
        name=model_name(config.source),
        model=model,
        tokenizer=tokenizer,
        device=device,
        dtype=dtype,
        layout=layout,
        fingerprint=fingerprint(Path(folder), model.config, layout, dtype),
        eos_ids=_eos_ids(model, tokenizer),
        max_positions=int(model.config.get_text_config(decoder=True).max_position_embeddings),
        folder=folder,
        cuda=_cuda_runner(model, layout, device),
    )
    prove(decoder, stock)
    if settings := unfollowed(getattr(model, "generation_config", None)):
        logger.warning("%s: its generation_config is not followed in %s", decoder.name, settings)
    return decoder


def _cuda_runner(model: Any, layout: Layout, device: torch.device) -> "CudaRunner | None":
    if device.type != "cuda":
        return None
    from actors.engine.cuda.runner import CudaRunner

    return CudaRunner(model, layout, device)


def model_name(source: str) -> str:
    """The name clients use: the package, the last part of a path, or the hub id."""
    if source.startswith("package:"):
        return source.removeprefix("package:")
    return Path(source).expanduser().name if Path(source).expanduser().is_dir() else source


def _eos_ids(model: Any, tokenizer: Any) -> frozenset[int]:
    listed = model.generation_config.eos_token_id
    ids = set(listed if isinstance(listed, list) else [listed]) | {tokenizer.eos_token_id}
    return frozenset(i for i in ids if i is not None)
