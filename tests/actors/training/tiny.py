"""A tiny random model with a tokenizer of its own, saved as any local model; a toy corpus."""

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from actors.engine.config import EngineConfig, ModelConfig, PromptConfig, RerankerConfig
from actors.engine.rerank import RerankEngine
from actors.engine.runtime import load_runtime
from actors.training.data import Examples, Question, make_examples

COLOURS = {
    "apple": "red",
    "sky": "blue",
    "grass": "green",
    "sun": "yellow",
    "snow": "white",
    "coal": "black",
    "fox": "orange",
    "plum": "purple",
}
PASSAGES = [f"Everybody knows that the {thing} is {c}." for thing, c in COLOURS.items()]
QUESTIONS = [f"What colour has the {thing}?" for thing in COLOURS]
QUESTIONS += [f"Which thing is {colour}?" for colour in COLOURS.values()]
PROMPT = PromptConfig()

_SHAPE: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 256,
    "tie_word_embeddings": True,
    "initializer_range": 0.2,
}


def examples() -> Examples:
    asked = [Question(text, i % len(PASSAGES)) for i, text in enumerate(QUESTIONS)]
    return make_examples(PASSAGES, asked)


def save_tiny(family: str, folder: Path, **more: Any) -> ModelConfig:
    """Weights from a fixed seed, wide enough that scores of passages differ."""
    tokenizer = toy_tokenizer()
    facts = AutoConfig.for_model(
        family,
        vocab_size=len(tokenizer),
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=0,
        **_SHAPE | more,
    )
    torch.manual_seed(7)
    AutoModelForCausalLM.from_config(facts).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return ModelConfig(source=str(folder), dtype="float32", device="cpu")


def served_scores(model: ModelConfig, question: str, run_dir: Path) -> list[float]:
    """Of every passage of the toy corpus, by the engine that serves."""
    runtime = load_runtime(model, PROMPT, EngineConfig(compute_slot=False), str(run_dir))
    engine = RerankEngine(runtime, RerankerConfig(reuse="off"), None)
    return list(engine.score("test", question, PASSAGES, timeout_s=60).log_likelihoods)


def toy_tokenizer() -> PreTrainedTokenizerFast:
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=["<eos>"], initial_alphabet=alphabet, show_progress=False
    )
    bpe.train_from_iterator(PASSAGES + QUESTIONS, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token="<eos>")
