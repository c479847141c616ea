"""The score that is trained: the one that is served, with gradients.

Gradients reach a passage's own tokens through attention: the KV of documents is trained too.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import Tensor

from actors.engine.config import ModelConfig, PromptConfig
from actors.engine.head import Head
from actors.engine.models import TORCH_DTYPES, pick_device, pick_dtype
from actors.engine.prompt import Prompt
from actors.engine.weights import prepare
from actors.errors import RequestError
from actors.training.adapter import load_adapted, lora_weights
from actors.training.functions import log_probs
from actors.training.rows import Rows, make_rows

_KEPT_HIDDEN, _KEPT_INNER = 70, 20
"""Bytes that a layer keeps of a token for the backward pass, for each unit of its hidden and of its
inner size. Measured: 2.2 MB a token of SmolLM2-135M in bf16."""
_MEMORY_SHARE = 0.3
"""Of the memory that is free: other processes need some, and fragments are lost."""


class Scorer:
    """Frozen weights are in the dtype of serving, LoRA weights and their gradients in fp32."""

    def __init__(self, model: ModelConfig, prompt: PromptConfig, rank: int, seed: int) -> None:
        """Raises UnavailableError, with the remedy, when the model or peft is not there."""
        from transformers import AutoTokenizer

        self.folder: Path = prepare(model.source, model.cache_dir)
        self._device = pick_device(model.device)
        self._dtype = TORCH_DTYPES[pick_dtype(model.dtype, self._device)]
        torch.manual_seed(seed)
        self._model: Any = load_adapted(self.folder, self._dtype, rank).to(self._device)
        self._model.train()
        self.causal: Any = self._model.get_base_model()
        self.tokenizer: Any = AutoTokenizer.from_pretrained(self.folder)
        self._prompt = Prompt(self.tokenizer, prompt)

    @property
    def weights(self) -> dict[str, torch.nn.Parameter]:
        """What is trained, by name."""
        return lora_weights(self._model)

    def scores(self, questions: Sequence[str], passages: Sequence[str]) -> Tensor:
        """Mean log-likelihood [Q, N], fp32, of every question given every passage."""
        suffix, _ = self._prompt.rerank_suffix("")
        contexts = [self._prompt.prefix + self._prompt.passage(p) + suffix for p in passages]
        rows = make_rows(contexts, [self._prompt.rerank_suffix(q)[1] for q in questions])
        with self._mixed():
            hidden = self._hidden(rows)
            picked = rows.predicting.to(self._device)[..., None].expand(-1, -1, hidden.shape[2])
            head = Head.of(self.causal)
            scored = log_probs(
                hidden.gather(1, picked).flatten(0, 1) * head.scale,
                head.weight,
                rows.targets.to(self._device).repeat(len(passages)),
                head.softcap,
            )
        parts = torch.split(scored.view(len(passages), -1), rows.lengths, dim=1)
        return torch.stack([part.mean(1) for part in parts])

    def _hidden(self, rows: Rows) -> Tensor:
        """Last hidden states [N, T, d]."""
        self._require_whole_attention(int(rows.positions.max()) + 1)
        seen = rows.seen.to(self._device)
        mask = torch.zeros(seen.shape, dtype=self._dtype, device=self._device)
        self._save_memory(rows.ids.numel())
        hidden: Tensor = self.causal.get_decoder()(
            input_ids=rows.ids.to(self._device),
            position_ids=rows.positions.to(self._device),
            attention_mask=mask.masked_fill(~seen, -torch.inf),
            use_cache=False,
        ).last_hidden_state
        return hidden

    def _save_memory(self, num_tokens: int) -> None:
        """Where what a backward pass needs would not fit well, layers are computed twice instead
        (gradient checkpointing): a third slower, with the same result."""
        facts = self.causal.config
        width = _KEPT_HIDDEN * facts.hidden_size + _KEPT_INNER * facts.intermediate_size
        kept_bytes = num_tokens * facts.num_hidden_layers * width
        if kept_bytes > _MEMORY_SHARE * self._free_bytes():
            self.causal.gradient_checkpointing_enable({"use_reentrant": False})
        else:
            self.causal.gradient_checkpointing_disable()

    def _free_bytes(self) -> int:
        if self._device.type == "cuda":
            return torch.cuda.mem_get_info(self._device)[0]
        return psutil.virtual_memory().available

    @contextmanager
    def _mixed(self) -> Iterator[None]:
        """LoRA weights are cast to the dtype of their input, once a step, and not the input."""
        from peft.helpers import disable_input_dtype_casting

        lower = self._dtype != torch.float32
        with (
            disable_input_dtype_casting(self._model, lower),
            torch.autocast(self._device.type, self._dtype, enabled=lower),
        ):
            yield

    def _require_whole_attention(self, num_tokens: int) -> None:
        facts = self.causal.config
        window = getattr(facts, "sliding_window", None) or facts.max_position_embeddings
        if num_tokens > window:
            raise RequestError(
                "max_passage_tokens",
                f"the prompt has {num_tokens} tokens with the question, "
                f"this model can be trained on {window}",
            )
