"""Scoring rules: what follows a passage, and what its last hidden states say (ALGORITHMS 1.4).

query_likelihood   mean log Pr(question's tokens)   a row and the whole head per token asked
yes_no             z[yes] - z[no]                   one row, two rows of the head
head               w . h + b                        one row, no vocabulary
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from actors.engine.config import RerankerConfig
from actors.engine.models import Decoder
from actors.engine.plain_text import Tokens
from actors.engine.prompt import Prompt
from actors.errors import UnavailableError
from actors.messages import Scale


@dataclass(frozen=True, slots=True)
class Suffix:
    """What follows a passage, as token pieces."""

    fixed: Tokens
    """The same for every question: its KV can be stored behind the passage. May be empty."""
    fed: Tokens
    """Computed for every candidate; at least one token."""
    targets: Tokens
    """Predicted from the last `len(targets)` rows of `fed`; empty where a rule reads the last
    row only."""

    @property
    def num_tokens(self) -> int:
        """Of the prompt behind the passage: the last target is not fed."""
        return len(self.fixed) + len(self.fed) + (1 if self.targets else 0)


class ScoringRule(Protocol):
    scale: Scale

    @property
    def fixed(self) -> Tokens:
        """`Suffix.fixed` of every question."""
        ...

    def suffix(self, question: str) -> Suffix: ...

    def num_rows(self, suffix: Suffix) -> int:
        """How many of the last fed rows' hidden states the rule needs."""
        ...

    def scores(self, decoder: Decoder, hidden: Tensor, suffix: Suffix) -> Tensor:
        """Scores [N] in fp32, of the last fed rows [N, num_rows, d] of N candidates."""
        ...


class Readout(Protocol):
    """Scores [N] in fp32, of hidden states [N, d]."""

    def __call__(self, decoder: Decoder, hidden: Tensor) -> Tensor: ...


class QueryLikelihood:
    """How probable the passage makes the question, token by token."""

    scale: Scale = "log_probability"

    def __init__(self, prompt: Prompt) -> None:
        self._prompt = prompt

    @property
    def fixed(self) -> Tokens:
        return self.suffix("").fixed

    def suffix(self, question: str) -> Suffix:
        """The cue's last token is fed: it predicts the question's first. The question's last token
        is predicted, not fed."""
        before, asked = self._prompt.rerank_suffix(question)
        return Suffix(before[:-1], before[-1:] + asked[:-1], asked)

    def num_rows(self, suffix: Suffix) -> int:
        return len(suffix.targets)

    def scores(self, decoder: Decoder, hidden: Tensor, suffix: Suffix) -> Tensor:
        targets = torch.tensor(suffix.targets, device=hidden.device).repeat(len(hidden))
        log_probs = decoder.log_probs(hidden.flatten(0, 1), targets)
        return log_probs.view(len(hidden), len(suffix.targets)).mean(1)


class Judgement:
    """The question is put behind the passage, and one hidden state read: that of the last row."""

    scale: Scale = "logit"

    def __init__(self, prompt: Prompt, readout: Readout) -> None:
        self._prompt, self._readout = prompt, readout

    @property
    def fixed(self) -> Tokens:
        return self.suffix("").fixed

    def suffix(self, question: str) -> Suffix:
        fixed, fed = self._prompt.judge_suffix(question)
        return Suffix(fixed, fed, ())

    def num_rows(self, suffix: Suffix) -> int:
        return 1

    def scores(self, decoder: Decoder, hidden: Tensor, suffix: Suffix) -> Tensor:
        return self._readout(decoder, hidden[:, -1])


@dataclass(frozen=True, slots=True)
class YesNo:
    """z[yes] - z[no]; its logistic function is Pr(yes) of the two. Without `no`, z[yes] alone."""

    yes: int
    no: int | None = None

    def __call__(self, decoder: Decoder, hidden: Tensor) -> Tensor:
        if self.no is None:
            return decoder.token_logits(hidden, [self.yes])[:, 0]
        logits = decoder.token_logits(hidden, [self.yes, self.no])
        return logits[:, 0] - logits[:, 1]


@dataclass(frozen=True, slots=True)
class LinearHead:
    weight: Tensor
    """[d] in fp32."""
    bias: float

    @torch.inference_mode()
    def __call__(self, decoder: Decoder, hidden: Tensor) -> Tensor:
        return hidden.float() @ self.weight + self.bias


def create_scoring_rule(config: RerankerConfig, prompt: Prompt, decoder: Decoder) -> ScoringRule:
    """Raises ValueError or UnavailableError, naming the setting, for what this model cannot."""
    if config.scoring == "head":
        return Judgement(prompt, load_head(config.head, decoder))
    require_vocabulary_head(decoder)
    if config.scoring == "yes_no":
        words = {"judge_yes": prompt.config.judge_yes, "judge_no": prompt.config.judge_no}
        remedy = "choose another text"
        ids = [single_token(prompt, w, f"prompt.{key}", remedy) for key, w in words.items()]
        return Judgement(prompt, YesNo(*ids))
    return QueryLikelihood(prompt)


def single_token(prompt: Prompt, text: str, setting: str, remedy: str) -> int:
    """Raises ValueError, naming the setting that wants it, unless `text` is one token."""
    ids = prompt.trusted(text, begins=True)
    if len(ids) != 1:
        raise ValueError(
            f"{setting} needs {text!r} as one token, but for this model it is {len(ids)}: {remedy}"
        )
    return ids[0]


def require_vocabulary_head(decoder: Decoder) -> None:
    """A classifier's checkpoint has no vocabulary head unless it is the embedding: transformers
    would make up a random one."""
    facts = decoder.model.config
    classifier = any("ForSequenceClassification" in a for a in facts.architectures or ())
    if classifier and not getattr(facts, "tie_word_embeddings", False):
        raise UnavailableError(
            f"model {decoder.name!r} is a classifier without a vocabulary head: set "
            "reranker.scoring to 'head'"
        )


def load_head(path: str, decoder: Decoder) -> LinearHead:
    """The head in a safetensors file, or among the model's own weights when `path` is empty."""
    folder = decoder.folder
    own = sorted(folder.glob("*.safetensors")) if folder is not None else []
    found = _head_tensors([Path(path).expanduser()] if path else own)
    size = int(decoder.model.config.hidden_size)
    where = f"reranker.head {path!r}" if path else f"model {decoder.name!r}"
    if "score.weight" not in found:
        remedy = "" if path else ": set reranker.head to a safetensors file that has it"
        raise UnavailableError(
            f"{where} has no score.weight [1, {size}], which reranker.scoring 'head' needs{remedy}"
        )
    weight, bias = found["score.weight"], found.get("score.bias", torch.zeros(1))
    if tuple(weight.shape) != (1, size) or tuple(bias.shape) != (1,):
        raise UnavailableError(
            f"{where} has score.weight {list(weight.shape)} and score.bias {list(bias.shape)}; "
            f"reranker.scoring 'head' needs [1, {size}] and [1]"
        )
    return LinearHead(weight[0].float().to(decoder.device), float(bias))


def _head_tensors(files: list[Path]) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for file in files:
        try:
            with safe_open(file, "pt") as tensors:
                names = {"score.weight", "score.bias"} & set(tensors.keys())
                found |= {name: tensors.get_tensor(name) for name in names}
        except (OSError, SafetensorError) as error:
            raise UnavailableError(f"reranker.head: {file} cannot be read: {error}") from error
    return found


def finite(scores: Tensor) -> list[float]:
    """Raises UnavailableError for a score that is not a number."""
    if not bool(scores.isfinite().all()):
        raise UnavailableError("the reranker computed a score that is not a finite number")
    listed: list[float] = scores.tolist()
    return listed
