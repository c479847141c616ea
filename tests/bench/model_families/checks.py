"""What the engine gives for a tiny model, against stock transformers given the same tokens.

The self-test of loading is not used here: this is to find what it lets pass.
"""

from pathlib import Path
from typing import Any
from uuid import uuid4

import torch
from torch import Tensor

from actors.engine.compute import ComputeSlot
from actors.engine.config import EngineConfig, PromptConfig, RerankerConfig
from actors.engine.lanes import Lane
from actors.engine.models import Decoder
from actors.engine.packed import Batch
from actors.engine.prompt import Prompt
from actors.engine.rerank import RerankEngine
from actors.engine.runtime import Runtime
from kvstore.client import StoreClient

LIMIT = 2e-3
"""Largest difference that rounding in fp32 makes, as a share of the spread of a row's logits."""
SPLITS = (1, 7, 8, 9, 31, 70)
NEW_TOKENS = 12
PASSAGES = ["Everybody knows that the apple is red.", "The sky is blue, says the fox.", "Coal."]
QUESTION = "What colour has the apple?"


@torch.inference_mode()
def worst_difference(
    decoder: Decoder, stock: Any, client: StoreClient, folder: Path
) -> dict[str, float]:
    """By what was done: parts of a text over stored KV, several texts in a batch, greedy answers,
    the reranker cold and warm."""
    texts = [_text(71, 1), _text(45, 2)]
    kvs = [decoder.empty_kv(len(text) + NEW_TOKENS) for text in texts]
    lanes = [
        Lane(text, sinks=(kv[:, :, :, : len(text)],)) for text, kv in zip(texts, kvs, strict=True)
    ]
    hidden = decoder.forward(Batch(lanes))
    wanted = [_stock(stock, text) for text in texts]
    found = {"whole": _away(decoder.logits(hidden), torch.cat(wanted))}
    found["split"] = max(_split(decoder, texts[0], kvs[0], wanted[0], at) for at in SPLITS)
    found["batch"] = _batched(decoder, texts, kvs, wanted)
    starts = [len(texts[0]) - 1, len(hidden) - 1]
    firsts = decoder.logits(hidden[starts]).argmax(-1).tolist()
    found["greedy"] = _greedy(decoder, stock, texts, kvs, firsts)
    found["rerank"] = _reranked(decoder, stock, client, folder)
    return found


def _split(decoder: Decoder, text: list[int], kv: Tensor, wanted: Tensor, at: int) -> float:
    lane = Lane(text[at:], [kv[:, :, :, :at]])
    return _away(decoder.logits(decoder.forward(Batch([lane]))), wanted[at:])


def _batched(
    decoder: Decoder, texts: list[list[int]], kvs: list[Tensor], wanted: list[Tensor]
) -> float:
    """Lanes behind a prefix that all share: as rerankers have them, in one width and in several."""
    (text, _), (kv, _), (expected, _) = texts, kvs, wanted
    shared = kv[:, :, :, :6].contiguous()
    worst = 0.0
    for cuts in ([(20, 30, 40), (22, 33, 43)], [(12, 21, 70), (7, 55, 56)]):
        lanes = [
            Lane(text[b:c], [kv[:, :, :, 6:a].contiguous(), kv[:, :, :, a:b].contiguous()])
            for a, b, c in cuts
        ]
        rows = decoder.logits(decoder.forward(Batch(lanes, shared)))
        worst = max(worst, _away(rows, torch.cat([expected[b:c] for _, b, c in cuts])))
    return worst


def _greedy(
    decoder: Decoder, stock: Any, texts: list[list[int]], kvs: list[Tensor], firsts: list[int]
) -> float:
    """Both answers decoded together; each token must be the first choice of stock logits for the
    whole text, or as good as that within rounding."""
    answers = [[first] for first in firsts]
    logits: list[list[Tensor]] = [[], []]
    for step in range(NEW_TOKENS - 1):
        lanes = []
        for text, kv, answer in zip(texts, kvs, answers, strict=True):
            n = len(text) + step
            past, own = kv[:, :, :, :n], kv[:, :, :, n : n + 1]
            lanes.append(Lane([answer[-1]], [past], (own,), joined=kv[:, :, :, : n + 1]))
        rows = decoder.logits(decoder.forward(Batch(lanes)))
        for i, row in enumerate(rows):
            logits[i].append(row)
            answers[i].append(int(row.argmax()))
    worst = 0.0
    for text, answer, rows_of in zip(texts, answers, logits, strict=True):
        expected = _stock(stock, text + answer[:-1])[len(text) :]
        ours = torch.stack(rows_of)
        worst = max(worst, _away(ours, expected))
        best, chosen = expected.max(-1).values, expected[range(len(ours)), answer[1:]]
        worst = max(worst, float(((best - chosen) / expected.std(-1)).max()))
    return worst


def _reranked(decoder: Decoder, stock: Any, client: StoreClient, folder: Path) -> float:
    """The real engine over a real store, cold and warm, against one stock pass a candidate."""
    prompt = Prompt(decoder.tokenizer, PromptConfig())
    slot = ComputeSlot(EngineConfig(compute_slot=False), str(folder))
    engine = RerankEngine(Runtime(decoder, prompt, slot, 2), RerankerConfig(), client)
    tenant = uuid4().hex  # two types may be one model under two names
    runs = [engine.score(tenant, QUESTION, PASSAGES, 60) for _ in range(2)]
    assert runs[1].cache.tokens_reused > runs[0].cache.tokens_reused, "the second one is warm"
    fixed, question = prompt.rerank_suffix(QUESTION)
    worst = 0.0
    for i, passage in enumerate(PASSAGES):
        context = [*prompt.prefix, *prompt.passage(passage), *fixed]
        rows = _stock(stock, [*context, *question])[len(context) - 1 : -1]
        wanted = float(rows.log_softmax(-1)[range(len(question)), list(question)].mean())
        worst = max(worst, *(abs(run.log_likelihoods[i] - wanted) for run in runs))
    return worst


def _stock(model: Any, text: list[int]) -> Tensor:
    """Logits [T, V] of a whole text, without any cache."""
    logits: Tensor = model(torch.tensor([text]), use_cache=False).logits
    return logits[0].float()


def _away(ours: Tensor, wanted: Tensor) -> float:
    assert ours.shape == wanted.shape, (ours.shape, wanted.shape)
    return float(((ours - wanted).abs().amax(-1) / wanted.std(-1)).max())


def _text(num: int, seed: int) -> list[int]:
    drawn = torch.Generator().manual_seed(seed)
    found: list[int] = torch.randint(3, 300, (num,), generator=drawn).tolist()
    return found
