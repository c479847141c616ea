"""The proof that a model is computed here as transformers computes it, before it serves.

A short text goes through stock transformers as a whole. Then it goes through our attention: as a
whole, behind stored KV as passages are scored, and token by token as answers are written. Every
layer has to hand over its keys and values in the one shape that the store keeps, and say how far
it looks back. It takes four short passes.
"""

import logging
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from huggingface_hub.errors import StrictDataclassError
from torch import Tensor

from actors.engine.attention import How
from actors.engine.cache import RowBatch
from actors.engine.lanes import Lane
from actors.engine.packed import Batch
from actors.engine.support import REMEDY
from actors.errors import UnsupportedModelError
from kvstore.types import Dtype, Layout

if TYPE_CHECKING:  # it imports this module
    from actors.engine.models import Decoder

logger = logging.getLogger(__name__)

NUM_TOKENS = 48
"""Of the text, at most."""
LIMITS: dict[Dtype, float] = {"float32": 1e-3, "float16": 0.05, "bfloat16": 0.2}
"""Of a row's logits, how far they may be from stock ones, as a share of these. Rounding of a deep
model in bf16 gives some percent; what is computed wrongly gives half and more."""
MODEL_ERRORS = (
    ArithmeticError, AssertionError, AttributeError, ImportError, LookupError, NotImplementedError,
    RuntimeError, StrictDataclassError, TypeError, ValueError,
)  # fmt: skip
"""What the code of a model raises when it is called in a way that it does not know."""

_TEXT = (
    "A lighthouse keeper wrote down every ship that passed: its name, its flag, the hour and the "
    "wind. After forty years the books filled a whole room, and one winter a storm took the roof. "
    "Which of the ships came back in spring, asked the children, and he knew them all by heart."
)


@dataclass(frozen=True, slots=True)
class Stock:
    """What stock transformers makes of the text."""

    ids: list[int]
    logits: Tensor
    """[T, V] in fp32, on the host."""


@dataclass(slots=True)
class _Watched:
    """A batch, and what each layer handed over in its pass."""

    batch: RowBatch
    invariant: bool = False
    keys: dict[int, Tensor] = field(default_factory=dict)
    values: dict[int, Tensor] = field(default_factory=dict)
    windows: dict[int, int | None] = field(default_factory=dict)
    repeated: set[int] = field(default_factory=set)
    """Layers that were run more than once."""

    @property
    def num_new(self) -> int:
        return self.batch.num_new

    def arrive(self, layer: int) -> bool:
        return self.batch.arrive(layer)

    def token_ids(self) -> list[int]:
        return self.batch.token_ids()

    def position_ids(self) -> list[int]:
        return self.batch.position_ids()

    def keep(self, layer: int, k: Tensor, v: Tensor) -> None:
        if layer in self.keys:
            self.repeated.add(layer)
        self.keys[layer], self.values[layer] = k[0], v[0]

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, how: How) -> Tensor:
        self.windows[layer] = how.window
        return self.batch.attend(layer, q, k, v, how)


@torch.inference_mode()
def stock_logits(model: Any, tokenizer: Any) -> Stock:
    """Of a model as transformers has loaded it, with its own attention."""
    facts = model.config.get_text_config(decoder=True)
    ids = tokenizer(_TEXT, add_special_tokens=False)["input_ids"][:NUM_TOKENS]
    ids = [int(i) % facts.vocab_size for i in ids]
    try:
        logits: Tensor = model(torch.tensor([ids], device=model.device), use_cache=False).logits
    except MODEL_ERRORS as error:
        raise _unsupported(model, f"transformers itself fails with it: {_said(error)}") from error
    return Stock(ids, logits[0].float().cpu())


@torch.inference_mode()
def layout_of(model: Any, stock: Stock, dtype: Dtype) -> Layout:
    """Layout of one token's KV, by what the layers hand over in a pass over the text. Raises
    UnsupportedModelError where that is not one shape of keys and values for each layer."""
    from actors.engine.models import forward

    seen = _Watched(Batch([Lane(stock.ids)]))
    try:
        forward(model, seen)
    except MODEL_ERRORS as error:
        raise _unsupported(
            model, f"its layers do not take our attention: {_said(error)}"
        ) from error
    facts = model.config.get_text_config(decoder=True)
    own = sorted(seen.keys.keys() & seen.windows.keys())
    if seen.repeated or own != list(range(facts.num_hidden_layers)):
        found = f"{len(own)} of {facts.num_hidden_layers} layers hand over keys and values"
        raise _unsupported(model, f"{found}, {len(seen.repeated)} of them more than once")
    shapes = {(k.shape[0], k.shape[2], v.shape[2]) for k, v in zip(*_both(seen), strict=True)}
    heads, dims, value_dims = shapes.pop()
    if shapes or dims != value_dims:
        shapes.add((heads, dims, value_dims))
        raise _unsupported(model, f"keys and values of several shapes: {sorted(shapes)}")
    _require_windows(model, facts, seen.windows)
    return Layout(len(own), heads, 1, dims, dtype)


def prove(decoder: "Decoder", stock: Stock) -> None:
    """Raises UnsupportedModelError, with the figure, where logits are not those of `stock`."""
    began = time.monotonic()
    try:
        found = _differences(decoder, stock)
    except MODEL_ERRORS as error:
        reason = f"its layers do not take stored KV: {_said(error)}"
        raise _unsupported(decoder.model, reason) from error
    limit = LIMITS[decoder.dtype]
    said = ", ".join(f"{value:.2g} {how}" for how, value in found.items())
    if not all(value <= limit for value in found.values()):  # NaN is not
        reason = f"its logits in {decoder.dtype} differ from those of transformers, as a share: "
        raise _unsupported(decoder.model, f"{reason}{said} (limit {limit:g})")
    logger.info(
        "%s (%s, %s) is proven against transformers on %d tokens: logits differ by %s (limit %g); "
        "%.1f s", decoder.name, decoder.model.config.model_type, decoder.dtype, len(stock.ids),
        said, limit, time.monotonic() - began,
    )  # fmt: skip


@torch.inference_mode()
def _differences(decoder: "Decoder", stock: Stock) -> dict[str, float]:
    """By what was done with the text."""
    ids, num = stock.ids, len(stock.ids)
    kv = decoder.empty_kv(num)
    whole = decoder.forward(Batch([Lane(ids, sinks=(kv,))]))
    lead, cut = num // 4, num // 2
    prefix = kv[:, :, :, :lead].contiguous()
    pasts = [kv[:, :, :, lead:end].contiguous() for end in (cut, cut + 1)]
    rows = [range(cut, num - 1), range(cut + 1, num)]
    lanes = [Lane([ids[i] for i in own], [past]) for own, past in zip(rows, pasts, strict=True)]
    behind = decoder.forward(Batch(lanes, prefix))
    ends = [cut, num]
    steps = [_step(ids, kv[:, :, :, :end].clone()) for end in ends]
    stepped = decoder.forward(Batch(steps))
    return {
        "in one pass": _difference(decoder, whole, stock, range(num)),
        "over stored KV": _difference(decoder, behind, stock, [i for own in rows for i in own]),
        "token by token": _difference(decoder, stepped, stock, [end - 1 for end in ends]),
    }


def _step(ids: list[int], buffer: Tensor) -> Lane:
    """The last token of a text, as decoding computes it."""
    last = buffer.shape[3] - 1
    before, own = buffer[:, :, :, :last], buffer[:, :, :, last:]
    return Lane([ids[last]], past=[before], sinks=(own,), joined=buffer)


def _difference(decoder: "Decoder", hidden: Tensor, stock: Stock, rows: Any) -> float:
    """How far the logits of these rows are from stock ones, as a share of their spread: the worst
    row in fp32. In 16-bit types the median: there an expert that is chosen by a hair's breadth
    makes another row of one."""
    ours, wanted = decoder.logits(hidden).cpu(), stock.logits[list(rows)]
    if ours.shape != wanted.shape:
        raise _unsupported(decoder.model, f"logits of {list(ours.shape)}, not {list(wanted.shape)}")
    spread = (wanted - wanted.mean(-1, keepdim=True)).norm(dim=-1)
    shares = (ours - wanted).norm(dim=-1) / spread
    return float(shares.max() if decoder.dtype == "float32" else shares.median())


def _both(seen: _Watched) -> tuple[list[Tensor], list[Tensor]]:
    return list(seen.keys.values()), list(seen.values.values())


def _require_windows(model: Any, facts: Any, windows: dict[int, int | None]) -> None:
    """Layers that the configuration calls sliding say how far they look back, the others nothing:
    a short text does not show it."""
    for layer, kind in enumerate(getattr(facts, "layer_types", None) or ()):
        wanted = facts.sliding_window if kind == "sliding_attention" else None
        if windows[layer] != wanted:
            found = f"layer {layer} is of {kind}, and its attention has window {windows[layer]}"
            raise _unsupported(model, f"{found} instead of {wanted}")


def _said(error: Exception) -> str:
    first = str(error).strip().split("\n")[0]
    return f"{type(error).__name__}: {first}"


def _unsupported(model: Any, reason: str) -> UnsupportedModelError:
    return UnsupportedModelError(model.config.model_type, reason, REMEDY)
