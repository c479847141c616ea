"""Tiny random models with a tokenizer: what rules do to text, without the weight of real ones."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from actors.engine import attention
from actors.engine.compute import ComputeSlot
from actors.engine.config import EngineConfig, PromptConfig
from actors.engine.models import Decoder
from actors.engine.prompt import Prompt
from actors.engine.runtime import Runtime
from kvstore.types import Layout

LAYERS, KV_HEADS, HEAD_DIM = 3, 2, 8
FACTS: dict[str, dict[str, Any]] = {
    "llama": {},
    "qwen3": {},
    "gemma": {},
    "gemma2": {"sliding_window": 32, "query_pre_attn_scalar": 12, "final_logit_softcapping": 2.0},
}
"""What a family adds; Gemma 2 caps its logits, low enough here to be felt."""
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""How Qwen's tokenizer cuts text before it merges bytes."""
TURNS = ["<|im_start|>", "<|im_end|>", "<think>", "</think>"]
CHAT = (
    "{% for m in messages %}<|im_start|>{{ m['role'] + '\n' + m['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@cache
def tokenizer() -> Any:
    """Byte-level, with Qwen's cuts and special tokens and a BOS, trained on English here."""
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    trained.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=1500,
        special_tokens=["<pad>", "<bos>", *TURNS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    words = "yes\nno\nYes\nNo\nWhat?\n>:\n" * 5000
    trained.train_from_iterator([*topics.values(), words], trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=trained,
        bos_token="<bos>",
        eos_token="<|im_end|>",
        pad_token="<pad>",
        chat_template=CHAT,
    )


@cache
def byte_fallback() -> Any:
    """Decodes as the tokenizers of Llama 2, Mistral, Gemma and Phi 3 do: what has no piece of its
    own is bytes."""
    pieces = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), "中", "▁sun", "s"]
    made = Tokenizer(
        models.BPE({piece: i for i, piece in enumerate(pieces)}, [], byte_fallback=True)
    )
    made.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    return PreTrainedTokenizerFast(tokenizer_object=made, chat_template=CHAT)


def facts(family: str, tokens: Any = None) -> Any:
    """A transformers configuration of the family, for `tokenizer()` unless `tokens` is given."""
    known = tokens or tokenizer()
    common = {
        "vocab_size": len(known),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": 4,
        "num_key_value_heads": KV_HEADS,
        "head_dim": HEAD_DIM,
        "max_position_embeddings": 2048,
        "initializer_range": 0.2,  # scores of random weights then differ visibly
        "bos_token_id": known.bos_token_id,
        "eos_token_id": known.eos_token_id,
        "pad_token_id": known.pad_token_id,
        "tie_word_embeddings": False,
    }
    return AutoConfig.for_model(family, **common | FACTS[family])


def speaking(family: str, name: str = "tiny", tokens: Any = None) -> tuple[Decoder, Any]:
    """Our decoder in fp32, and a stock model of the same random weights."""
    known = tokens or tokenizer()
    attention.register()
    torch.manual_seed(7)
    stock = AutoModelForCausalLM.from_config(
        facts(family, known), attn_implementation="eager"
    ).eval()
    ours = AutoModelForCausalLM.from_config(
        facts(family, known), attn_implementation=attention.NAME
    ).eval()
    ours.load_state_dict(stock.state_dict())
    layout = Layout(LAYERS, KV_HEADS, 1, HEAD_DIM, "float32")
    cpu = torch.device("cpu")
    decoder = Decoder(name, ours, known, cpu, "float32", layout, b"\0" * 32, frozenset(), 2048)
    return decoder, stock


def runtime_of(decoder: Decoder, folder: Path, config: PromptConfig | None = None) -> Runtime:
    prompt = Prompt(decoder.tokenizer, config or PromptConfig())
    return Runtime(decoder, prompt, ComputeSlot(EngineConfig(compute_slot=False), str(folder)), 1)


@torch.inference_mode()
def stock_logits(stock: Any, ids: Sequence[int]) -> torch.Tensor:
    """[T, vocabulary] of one plain forward pass."""
    logits: torch.Tensor = stock(torch.tensor([list(ids)])).logits[0].float()
    return logits


def assert_close(ours: Sequence[float], expected: Sequence[float]) -> None:
    assert len(ours) == len(expected) > 0
    assert max(abs(a - b) for a, b in zip(ours, expected, strict=True)) < 1e-4
    assert len(set(expected)) == len(expected), "passages that cannot be told apart show nothing"
