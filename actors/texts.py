"""What deployments are asked of texts alone: their vectors, and their tokens."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from actors.messages import Cut, Message, TemplateKwargs


@dataclass(frozen=True, slots=True)
class EmbedRequest:
    inputs: tuple[str | tuple[int, ...], ...]
    """Texts, or ids of the embedder's tokenizer."""
    timeout_s: float


@dataclass(frozen=True, slots=True)
class EmbedResult:
    vectors: NDArray[np.float32]
    """Unit vectors [len(inputs), dim]."""
    num_tokens: int
    """That the embedder has read."""
    cuts: tuple[Cut, ...]
    """Inputs that are longer than it reads."""


@dataclass(frozen=True, slots=True)
class TokenizeRequest:
    """A text, or a conversation without passages."""

    text: str
    messages: tuple[Message, ...]
    begins: bool
    """Whether a text begins a prompt, with what the model's prompts begin with."""
    timeout_s: float
    chat_template_kwargs: TemplateKwargs = ()


@dataclass(frozen=True, slots=True)
class TokenizeResult:
    ids: tuple[int, ...]
    pieces: tuple[str, ...]
    """As the vocabulary writes them."""
    max_tokens: int
    """Of a prompt and its answer."""
