"""A request to rerank, in the fields of vLLM, Jina, Cohere, Voyage, Pinecone, Infinity and TEI.

A field that would change the result is honoured or refused by name; one that asks for what happens
anyway is accepted.
"""

import json
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from cluster.ingress.errors import invalid
from cluster.ingress.schemas import Body, Text, checked_text, without_neutral

MAX_BYTES = 4_000_000
"""Of all documents of a request: they are tokenized in one go, while others wait."""
HARMLESS = frozenset(
    (
        "chunking_options",
        "max_chunk_per_doc",
        "max_chunks_per_doc",
        "max_doc_length",
        "overlap_tokens",
        "parameters",
        "priority",
        "request_id",
        "return_len",
        "truncate",
        "truncation",
        "truncation_direction",
        "truncation_side",
        "user",
    )
)
"""Notes, and how a long document is cut: here it has the score of its best passage."""
NEUTRAL: dict[str, tuple[Any, ...]] = {
    "instruction": ("",),
    "is_iql": (False,),
    "return_embeddings": (False,),
    "rewrite_query": (False,),
    "scoring_method": ("auto", "chunk_max"),
    "truncate_prompt_tokens": (-1,),
    "use_activation": (True,),
}
"""Fields without an effect here, and the values that ask for none."""

Sent = str | dict[str, Any]
"""A document as it was sent: a text, or an object of which some fields are ranked."""


def _as_list(value: Any) -> list[Any]:
    """A single text or object stands for a list of one."""
    documents = [value] if isinstance(value, (str, dict)) else value
    if not isinstance(documents, list):
        raise PydanticCustomError("documents", "must be a list of texts or of objects")
    for i, document in enumerate(documents):
        if not isinstance(document, (str, dict)):
            raise PydanticCustomError("documents", "[{i}] must be a text or an object", {"i": i})
    return documents


def _as_text(value: Any) -> Any:
    """NVIDIA's clients send `{"text": ...}` for a text."""
    return value["text"] if isinstance(value, dict) and set(value) == {"text"} else value


Documents = Annotated[list[Sent], BeforeValidator(_as_list)]


class RerankBody(Body):
    ignored: ClassVar[frozenset[str] | None] = HARMLESS
    query: Annotated[Text, BeforeValidator(_as_text)]
    documents: Documents | None = None
    texts: Documents | None = Field(default=None, description="TEI's and Isaacus' name")
    passages: Documents | None = Field(default=None, description="NVIDIA's name")
    model: str | None = None
    top_n: int = Field(0, ge=0, description="0: all")
    top_k: int | None = Field(None, ge=1, description="another name of top_n")
    rank_fields: list[str] = Field(
        default_factory=list, description="of objects; without it `text`, or all where none has it"
    )
    return_documents: bool = True
    return_text: bool = False
    raw_scores: bool = False
    max_tokens_per_doc: int | None = Field(None, ge=1, description="longer documents are cut")

    @model_validator(mode="before")
    @classmethod
    def _refuse_unsupported(cls, data: Any) -> Any:
        return without_neutral(data, NEUTRAL)

    @field_validator("query")
    @classmethod
    def _not_empty(cls, query: str) -> str:
        if not query.strip():
            raise ValueError("must not be empty")
        return query

    @property
    def num_results(self) -> int | None:
        """None: all. Raises ApiError."""
        if self.top_k is not None and self.top_n not in (0, self.top_k):
            raise invalid("top_k", f"is {self.top_k} and top_n {self.top_n}; give one of them")
        return self.top_k or self.top_n or None

    @property
    def field(self) -> str:
        """The one that holds the documents. Raises ApiError."""
        given = [name for name in ("documents", "texts", "passages") if getattr(self, name)]
        if len(given) > 1:
            raise invalid(given[1], f"is there beside {given[0]}; give one of them")
        return given[0] if given else "documents" if self.texts is None else "texts"

    @property
    def sent(self) -> list[Sent]:
        return self.documents or self.texts or self.passages or []

    def to_rank(self, max_candidates: int) -> list[str]:
        """The text of each document. Raises ApiError."""
        name = self.field
        if not self.sent:
            raise invalid(name, f"is needed: 1 to {max_candidates} texts to rank")
        if (num := len(self.sent)) > max_candidates:
            raise invalid(name, f"has {num} entries, at most {max_candidates} are allowed")
        texts = [
            ranked_text(document, self.rank_fields, f"{name}[{i}]")
            for i, document in enumerate(self.sent)
        ]
        if (size := sum(len(text.encode()) for text in texts)) > MAX_BYTES:
            raise invalid(name, f"has {size} bytes of text, at most {MAX_BYTES} are allowed")
        return texts


def ranked_text(document: Sent, rank_fields: Sequence[str], where: str) -> str:
    """One field's value, or several as lines `name: value`. Raises ApiError that names `where`."""
    try:
        if isinstance(document, str):
            return checked_text(document)
        json.dumps(document, ensure_ascii=False, allow_nan=False).encode()  # it may be sent back
        return checked_text(_of_fields(document, rank_fields))
    except ValueError as error:
        raise invalid(where, str(error)) from None


def _of_fields(document: dict[str, Any], rank_fields: Sequence[str]) -> str:
    values = {
        name: value if isinstance(value, str) else json.dumps(value)
        for name, value in document.items()
        if isinstance(value, (str, int, float))
    }
    names = list(rank_fields) or (["text"] if "text" in values else list(values))
    found = [name for name in names if name in values]
    if not found:
        wanted = ", ".join(names) or "a field with a text"
        raise ValueError(f"needs {wanted}; it has: {', '.join(document)[:100] or 'nothing'}")
    if len(found) == 1:
        return values[found[0]]
    return "\n".join(f"{name}: {values[name]}" for name in found)
