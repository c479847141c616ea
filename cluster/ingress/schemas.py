"""What request bodies have in common: null means absent, unknown fields are named."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PlainValidator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from actors.conversation import MAX_QUERY_BYTES, excerpt
from actors.engine.config import GeneratorConfig
from actors.engine.template_options import MAX_OPTIONS, problem
from actors.messages import Sampling, TemplateKwargs
from actors.retrieval.config import RetrievalConfig
from cluster.ingress.config import NAME, NAME_RULE, IngressConfig
from cluster.ingress.errors import invalid, too_long
from cluster.query import Retrieval


def checked_text(text: str) -> str:
    """Raises ValueError."""
    if "\0" in text:
        raise ValueError(f"is binary: NUL at character {text.index(chr(0))}")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"not Unicode: a lone surrogate at character {error.start}") from None
    return text


Text = Annotated[str, AfterValidator(checked_text)]
"""JSON may escape halves of characters, which no tokenizer and no digest can take, and NUL, which
no document may have either."""


def printable(name: str) -> str:
    """A client's name for something, as an error can say it."""
    return name[:100].encode(errors="backslashreplace").decode()


def _template_kwargs(value: Any) -> TemplateKwargs:
    """Raises PydanticCustomError that names the variable."""
    field = "chat_template_kwargs"
    if not isinstance(value, dict) or len(value) > MAX_OPTIONS:
        raise _refused(field, f"must be an object of at most {MAX_OPTIONS} variables")
    set_ones = {name: given for name, given in value.items() if given is not None}
    for name, given in set_ones.items():
        if reason := problem(name, given):
            raise _refused(f"{field}.{printable(name)}", reason)
    return tuple(sorted(set_ones.items()))


def _refused(field: str, message: str) -> PydanticCustomError:
    return PydanticCustomError(
        "unsupported_field", "{message}", {"field": field, "message": message}
    )


ChatTemplateKwargs = Annotated[
    TemplateKwargs,
    PlainValidator(_template_kwargs, json_schema_input_type=dict[str, bool | int | float | str]),
]
"""Variables of the model's chat template, over the configured ones."""


class Body(BaseModel):
    """A request's JSON object. Unknown fields are refused (400); the error names the known ones."""

    model_config = ConfigDict(allow_inf_nan=False, frozen=True)
    ignored: ClassVar[frozenset[str] | None] = frozenset()
    """Fields accepted without effect; None: any."""

    @model_validator(mode="before")
    @classmethod
    def _null_means_absent(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        data = {name: value for name, value in data.items() if value is not None}
        known = {field.alias or name for name, field in cls.model_fields.items()}
        for name in data if cls.ignored is not None else ():
            if name not in known | (cls.ignored or frozenset()):
                raise PydanticCustomError(
                    "unknown_field",
                    "unknown field; allowed: {allowed}",
                    {"field": printable(str(name)), "allowed": ", ".join(sorted(known))},
                )
        return data


def without_neutral(data: Any, neutral: Mapping[str, tuple[Any, ...]]) -> Any:
    """A body without the fields of `neutral`, whose values ask for what happens anyway. Raises
    PydanticCustomError for any other value."""
    if not isinstance(data, dict):
        return data
    for name, allowed_values in neutral.items():
        value = data.get(name)
        if value is not None and value not in allowed_values:
            allowed = " or ".join(map(repr, allowed_values)) or "leave it out"
            raise _refused(name, f"is not supported; allowed: {allowed}")
    return {name: value for name, value in data.items() if name not in neutral}


class RetrievalOptions(Body):
    """The `hyperrag` object of a request; None leaves one to the configuration."""

    collection: str | None = None
    top_n: int | None = None
    top_k: int | None = None
    retrieve: bool = True


class SamplingOptions(Body):
    max_tokens: int | None = Field(None, ge=1, description="cut to generator.max_new_tokens")
    temperature: float = Field(0.0, ge=0, le=2)
    top_p: float = Field(1.0, gt=0, le=1)
    seed: int | None = Field(None, ge=-(2**63), lt=2**63)
    stop: Text | list[Text] = Field(default_factory=list)

    def sampling(self, config: GeneratorConfig, asked: int | None = None) -> Sampling:
        """More tokens than the configuration allows are cut to that. Raises ApiError."""
        max_tokens = asked or self.max_tokens
        if max_tokens is None:
            max_tokens = config.default_new_tokens
        max_tokens = min(max_tokens, config.max_new_tokens)
        stop = (self.stop,) if isinstance(self.stop, str) else tuple(self.stop)
        if len(stop) > 4 or not all(0 < len(text) <= 256 for text in stop):
            raise invalid("stop", "must be at most 4 texts of 1 to 256 characters")
        return Sampling(max_tokens, self.temperature, self.top_p, self.seed, stop)


def retrieval_of(
    options: RetrievalOptions,
    question: str,
    param: str,
    config: RetrievalConfig,
    ingress: IngressConfig,
) -> Retrieval:
    """Raises ApiError that names the field; `param` is the one that holds the question."""
    if not question.strip():
        raise invalid(param, "must not be empty")
    check_prompt(len(question), param, ingress)
    searched = excerpt(question, lambda text: _is_searchable(text, ingress.max_question_chars))
    num_chars = len(question) if searched != question else 0
    for name, limit in (("top_n", config.max_top_n), ("top_k", config.max_top_n)):
        value = getattr(options, name)
        if value is not None and not 1 <= value <= limit:
            raise invalid(name, f"is {value}, must be 1 to {limit}")
    top_k = options.top_k or min(config.top_k, options.top_n or config.top_k)
    top_n = options.top_n or max(config.top_n, top_k)
    if top_k > top_n:
        raise invalid("top_k", f"is {top_k}, must be 1 to top_n, which is {top_n}")
    collection = collection_of(options.collection, ingress)
    tokens, turns = config.passage_tokens, config.history_turns
    return Retrieval(
        collection,
        searched,
        top_n,
        top_k,
        tokens,
        turns,
        field=param,
        num_chars=num_chars,
    )


def _is_searchable(text: str, max_chars: int) -> bool:
    return len(text) <= max_chars and len(text.encode()) <= MAX_QUERY_BYTES


def collection_of(name: str | None, ingress: IngressConfig) -> str:
    if name is None:
        return ingress.default_collection
    if not NAME.fullmatch(name):
        raise invalid("collection", f"must be {NAME_RULE}")
    return name


def check_prompt(chars: int, param: str, ingress: IngressConfig) -> None:
    if chars > ingress.max_prompt_chars:
        raise too_long(
            param, f"has {chars} characters, at most {ingress.max_prompt_chars} are allowed"
        )
