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


def facts(family: str) -> Any:
    """A transformers configuration of the family."""
    common = {
        "vocab_size": len(tokenizer()),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": 4,
        "num_key_value_heads": KV_HEADS,
        "head_dim": HEAD_DIM,
        "max_position_embeddings": 2048,
        "initializer_range": 0.2,  # scores of random weights then differ visibly
        "bos_token_id": tokenizer().bos_token_id,
        "eos_token_id": tokenizer().eos_token_id,
        "pad_token_id": tokenizer().pad_token_id,
        "tie_word_embeddings": False,
    }
    return AutoConfig.for_model(family, **common | FACTS[family])


def speaking(family: str, name: str = "tiny") -> tuple[Decoder, Any]:
    """Our decoder in fp32, and a stock model of the same random weights."""
    attention.register()
    torch.manual_seed(7)
    stock = AutoModelForCausalLM.from_config(facts(family), attn_implementation="eager").eval()
    ours = AutoModelForCausalLM.from_config(
        facts(family), attn_implementation=attention.NAME
    ).eval()
    ours.load_state_dict(stock.state_dict())
    layout = Layout(LAYERS, KV_HEADS, 1, HEAD_DIM, "float32")
    cpu = torch.device("cpu")
    decoder = Decoder(
        name, ours, tokenizer(), cpu, "float32", layout, b"\0" * 32, frozenset(), 2048
    )
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
