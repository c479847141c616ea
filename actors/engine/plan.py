"""A request's prompt as token pieces, checked against what the model and the settings allow."""

from dataclasses import dataclass

from actors.engine.config import GeneratorConfig
from actors.engine.models import Decoder
from actors.engine.plain_text import Tokens
from actors.engine.prompt import Prompt
from actors.errors import RequestError
from actors.messages import GenerateRequest
from kvstore.keys import make_path, make_root
from kvstore.types import EVERYWHERE, Path, Root


@dataclass(frozen=True, slots=True)
class Plan:
    """Pieces that segments of the store may cover, and a tail that never is one."""

    root: Root
    """Of model and tenant, where every chain begins."""
    pieces: tuple[Tokens, ...]
    """Prompt prefix and passages, in order; none for a raw prompt."""
    path: Path
    """Of the pieces, one behind the other."""
    question: Tokens
    """The last message alone."""
    tail: Tokens
    """Everything behind the passages, the question among it."""
    neighbours: tuple[bytes, ...] = ()
    """See GenerateRequest."""

    @property
    def own_prefix(self) -> bool:
        """Whether the prompt prefix is a client's own: then it is kept where its tag says, not on
        every node."""
        return bool(self.path) and self.path[0].key.placement != EVERYWHERE

    @property
    def num_tokens(self) -> int:
        return sum(map(len, self.pieces)) + len(self.tail)

    @property
    def num_passages(self) -> int:
        return len(self.pieces[1:])

    @property
    def num_passage_tokens(self) -> int:
        return sum(map(len, self.pieces[1:]))


class Planner:
    def __init__(self, decoder: Decoder, prompt: Prompt, config: GeneratorConfig) -> None:
        self._decoder, self._prompt, self._config = decoder, prompt, config

    def plan(self, request: GenerateRequest) -> Plan:
        """Raises RequestError for a prompt that is empty or too long."""
        root = make_root(self._decoder.fingerprint, request.tenant)
        if request.raw_prompt is not None:
            tokens = self._prompt.completion(request.raw_prompt)
            plan, field = Plan(root, (), (), tokens, tokens), "prompt"
        else:
            prefix, tail = self._prompt.conversation(
                request.messages, dict(request.chat_template_kwargs)
            )
            pieces = (prefix, *(self._prompt.passage(t) for t in request.passages))
            own_prefix = prefix != self._prompt.prefix
            path = make_path(root, pieces, self._decoder.layout, own_prefix)
            question = self._prompt.raw(request.messages[-1].content)
            plan = Plan(root, pieces, path, question, tail, request.neighbours)
            field = "messages"
        self._check(plan, field, request.sampling.max_tokens)
        return plan

    def _check(self, plan: Plan, field: str, max_tokens: int) -> None:
        if not plan.tail:
            raise RequestError(field, "must not be empty")
        room = min(self._config.max_context_tokens, self._decoder.max_positions) - max_tokens
        if plan.num_tokens > room:
            raise RequestError(
                field,
                f"prompt has {plan.num_tokens} tokens, {plan.num_passage_tokens} of them passages; "
                f"at most {room} are allowed with max_tokens {max_tokens}",
            )
