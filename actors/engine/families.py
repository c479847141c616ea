"""Rerankers whose published prompt puts the question before the passage, known by their names.

There the passage attends to the question, so its KV depends on the question and is never reused
(ALGORITHMS 1.4). Without torch: the configuration asks this module too.
"""

from dataclasses import dataclass
from pathlib import PurePath
from typing import Literal

from actors.engine.config import RerankerConfig

_QWEN3_SYSTEM = (
    "Judge whether the Document meets the requirements based on the Query and the Instruct "
    'provided. Note that the answer can only be "yes" or "no".'
)
_BGE_PROMPT = (
    "Given a query A and a passage B, determine whether the passage contains an answer to the "
    "query by providing a prediction of either 'Yes' or 'No'."
)


@dataclass(frozen=True, slots=True)
class Family:
    """shared | passage | tail; pieces are tokenized apart and joined by id.

    Pieces with a slot are tokenized without special tokens: the text in them opens no turn.
    """

    template: Literal["qwen3_reranker", "bge_gemma"]
    name: str
    mark: str
    """Part of the model's name, in lower case."""
    begins_with_bos: bool
    shared: tuple[str, ...]
    """`{instruct}` and `{question}` are replaced; computed once for all passages."""
    passage: str
    """`{text}` is replaced."""
    tail: tuple[str, ...]
    yes: str
    no: str | None
    """The score is z[yes] - z[no] at the last position, or z[yes] alone."""


FAMILIES = (
    Family(
        template="qwen3_reranker",
        name="Qwen3-Reranker",
        mark="qwen3-reranker",
        begins_with_bos=False,
        # Published as one string. Its tokenizer splits before the blank that follows a colon, so
        # the pieces have the ids of the whole.
        shared=(
            f"<|im_start|>system\n{_QWEN3_SYSTEM}<|im_end|>\n<|im_start|>user\n",
            "<Instruct>: {instruct}\n<Query>: {question}\n<Document>:",
        ),
        passage=" {text}",
        tail=("<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n",),
        yes="yes",
        no="no",
    ),
    Family(
        template="bge_gemma",
        name="bge-reranker-v2-gemma",
        mark="bge-reranker-v2-gemma",
        begins_with_bos=True,
        shared=("A: {question}", "\n"),
        passage="B: {text}",
        tail=("\n", _BGE_PROMPT),
        yes="Yes",
        no=None,
    ),
)


def query_first_family(config: RerankerConfig, model: str) -> Family | None:
    """The family to serve query-first, or None; `model` is a model's source or name.

    Raises ValueError for a scoring rule that such a family does not have.
    """
    found = _found(config, model)
    if found is not None and config.scoring != "query_likelihood":
        raise ValueError(
            f"reranker.scoring is {config.scoring!r}, but the published template of {found.name} "
            f"(reranker.template {config.template!r}, model {model!r}) has its own rule: leave "
            "reranker.scoring out, or set reranker.template to 'document_first'"
        )
    return found


def _found(config: RerankerConfig, model: str) -> Family | None:
    if config.template == "auto":
        name = _name(model)
        return next((family for family in FAMILIES if family.mark in name), None)
    return next((family for family in FAMILIES if family.template == config.template), None)


def _name(model: str) -> str:
    """Last part of a path or hub id; in the hub's cache, whose folders are
    `models--ORG--NAME/snapshots/REVISION`, the folder that names the model."""
    path = PurePath(model)
    name = path.parents[1].name if path.parent.name == "snapshots" else path.name
    return name.casefold().replace("_", "-")
