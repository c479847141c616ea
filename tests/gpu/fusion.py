"""Fusion on a GPU: the sparse kernel against SDPA, and the first token of Qwen2.5-7B's shape.

Attention: 15 % of 32,768 tokens over all keys, one layer, against SDPA under a mask (all the fused
attention that PyTorch has for rows at chosen places) and against SDPA of all tokens. First token:
passages of 512 tokens whose KV lies on the device are turned to their places, 15 % of their tokens
are chosen by the default rule and computed again together with the question; against a full pass
through the same model with PyTorch's own attention. Random weights: times, not answers.
"""

import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention as sdpa

from actors.engine import attention
from actors.engine.attention import How
from actors.engine.config import FusionConfig
from actors.engine.cuda import sparse_attention
from actors.engine.fusion.assembled import Assembled
from actors.engine.fusion.assembly import Places
from actors.engine.fusion.rotation import Rotation
from actors.engine.fusion.rules import create_selection
from actors.engine.fusion.selection import Selection, pick
from actors.engine.fusion.sparse import SparseBatch
from actors.engine.models import Decoder
from actors.engine.plain_text import Tokens
from tests.bench.harness import Options, Result, spread
from tests.gpu.rig import QWEN2_7B, random_decoder

SLOTS, SHARE = 32_768, 0.15
PROMPTS = (10_240, 17_408, 27_648)
PREFIX, PASSAGE, QUESTION = 32, 512, 32
_WARM_UPS = 2


def run(options: Options) -> Result:
    repetitions = 3 if options.quick else 9
    device = torch.device("cuda", torch.cuda.current_device())
    figures, rows = kernel_figures(device, repetitions)
    decoder = random_decoder(QWEN2_7B, device, options.seed)
    rotation = Rotation.of(decoder)
    selection = create_selection(FusionConfig(), decoder, rotation)
    for size in PROMPTS:
        prompt = Prompt(decoder, rotation, size, options.seed)
        arms = {
            "full": lambda prompt=prompt: full_pass(decoder, prompt),
            "fusion": lambda prompt=prompt: prompt.first_token(selection, FusionConfig().ratio),
        }
        seconds = {name: _seconds(arm, repetitions) for name, arm in arms.items()}
        rows += [{"tokens": size, **spread(name, own)} for name, own in seconds.items()]
        ratios = [f / o for f, o in zip(seconds["full"], seconds["fusion"], strict=True)]
        figures[f"ttft_gain_{size}"] = round(statistics.median(ratios), 3)
    config = {"model": QWEN2_7B, "fusion": asdict(FusionConfig()), "passage_tokens": PASSAGE}
    return Result(config, figures, rows)


def kernel_figures(
    device: torch.device, repetitions: int
) -> tuple[dict[str, float], list[dict[str, Any]]]:
    heads, kv_heads = QWEN2_7B["num_attention_heads"], QWEN2_7B["num_key_value_heads"]
    head_dim = QWEN2_7B["hidden_size"] // heads
    q, k, v = (
        torch.randn(h, SLOTS, head_dim, device=device).bfloat16()
        for h in (heads, kv_heads, kv_heads)
    )
    positions = torch.randperm(SLOTS, device=device)[: int(SHARE * SLOTS)].sort().values
    chosen, scaling = q[:, positions].contiguous(), head_dim**-0.5
    mask = torch.arange(SLOTS, device=device) <= positions[:, None]
    keys, values = (x.repeat_interleave(heads // kv_heads, 0)[None] for x in (k, v))
    arms: dict[str, Callable[[], Tensor]] = {
        "sparse kernel": lambda: sparse_attention(
            chosen, k, v, positions, How(scaling, None, None)
        ),
        "SDPA, masked": lambda: sdpa(chosen[None], keys, values, attn_mask=mask[None, None])[0],
        "SDPA, all tokens": lambda: sdpa(q[None], keys, values, is_causal=True)[0],
    }
    difference = (arms["sparse kernel"]() - arms["SDPA, masked"]()).abs().max()
    seconds = {name: _seconds(arm, repetitions) for name, arm in arms.items()}
    ours = statistics.median(seconds["sparse kernel"])
    figures = {
        "kernel_against_masked_sdpa": round(statistics.median(seconds["SDPA, masked"]) / ours, 3),
        "kernel_against_all_tokens": round(
            statistics.median(seconds["SDPA, all tokens"]) / ours, 3
        ),
        "kernel_max_difference": round(float(difference), 4),
    }
    return figures, [{"tokens": SLOTS, **spread(name, own)} for name, own in seconds.items()]


class Prompt:
    """Random tokens, and random KV of the passages as if each had been computed alone."""

    def __init__(self, decoder: Decoder, rotation: Rotation, size: int, seed: int) -> None:
        self._decoder, self._rotation = decoder, rotation
        rng = random.Random(seed)
        vocabulary = decoder.model.config.vocab_size

        def drawn(num: int) -> Tokens:
            return tuple(rng.randrange(vocabulary) for _ in range(num))

        num = (size - PREFIX - QUESTION) // PASSAGE
        self.prefix, self.question = drawn(PREFIX), drawn(QUESTION)
        self.passages = tuple(drawn(PASSAGE) for _ in range(num))
        self._stored = [torch.randn_like(decoder.empty_kv(PASSAGE)) for _ in range(num)]

    @property
    def tokens(self) -> list[int]:
        return [t for piece in (self.prefix, *self.passages, self.question) for t in piece]

    def first_token(self, selection: Selection, ratio: float) -> Tensor:
        """Assembly, selection, one sparse pass; logits [1, vocabulary]."""
        tokens = self.tokens
        kv = self._decoder.empty_kv(len(tokens))
        kv[:, :, :, :PREFIX] = 0
        assembled = Assembled(kv, self.prefix, self.passages)
        places = Places(assembled, self._rotation)
        for i, stored in enumerate(self._stored):
            places.put(i, stored)
        num = int(ratio * assembled.num_passage_tokens)
        picked = pick(selection, assembled, self.question, num)
        rows = [*picked, *range(assembled.end, len(tokens))]
        batch = SparseBatch([tokens[p] for p in rows], rows, kv)
        return self._decoder.logits(self._decoder.forward(batch)[-1:])


@torch.inference_mode()
def full_pass(decoder: Decoder, prompt: Prompt) -> Tensor:
    """PyTorch's own fused attention, the last token's logits."""
    decoder.model.set_attn_implementation("sdpa")
    try:
        ids = torch.tensor([prompt.tokens], device=decoder.device)
        hidden: Tensor = decoder.model.get_decoder()(input_ids=ids, use_cache=True)[0]
        return decoder.logits(hidden[0, -1:])
    finally:
        decoder.model.set_attn_implementation(attention.NAME)


def _seconds(arm: Callable[[], Tensor], repetitions: int) -> Sequence[float]:
    found = []
    for _ in range(_WARM_UPS + repetitions):
        start = time.perf_counter()
        arm().sum().item()  # waits for the device
        found.append(time.perf_counter() - start)
    return found[_WARM_UPS:]
