"""A request's prompt as token pieces, checked against what the model and the settings allow."""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

from actors.conversation import Conversation
from actors.engine.config import GeneratorConfig
from actors.engine.models import Decoder
from actors.engine.plain_text import Tokens
from actors.engine.prompt import Prompt, Turns
from actors.engine.template_options import Options
from actors.errors import ContextLengthError, RequestError
from actors.messages import Cut, FitRequest, GenerateRequest
from kvstore.keys import make_path, make_root
from kvstore.types import EVERYWHERE, Path, Root


@dataclass(frozen=True, slots=True)
class Plan:
    """Pieces that segments of the store may cover, and a tail that never is one."""

    root: Root
    """Of model and tenant, where every chain begins."""
    pieces: tuple[Tokens, ...]
    """Prompt prefix, exchanges of the conversation, and passages, in order; none for a raw
    prompt."""
    path: Path
    """Of the pieces, one behind the other."""
    question: Tokens
    """The user's last message alone."""
    tail: Tokens
    """Everything behind the passages, the question among it."""
    neighbours: tuple[bytes, ...] = ()
    """See GenerateRequest."""
    num_history: int = 0
    """Pieces between the prefix and the first passage."""
    num_left_out: int = 0
    """Messages of the conversation that had no room."""
    cuts: tuple[Cut, ...] = ()
    """Passages that had no room for all of their tokens, by their place in the request. Those that
    had room for none are no pieces."""
    max_new: int = 0
    """Most tokens of the answer."""

    @property
    def own_prefix(self) -> bool:
        """Whether the prompt prefix is a client's own: then it is kept where its tag says, not on
        every node."""
        return bool(self.path) and self.path[0].key.placement != EVERYWHERE

    @property
    def num_tokens(self) -> int:
        return sum(map(len, self.pieces)) + len(self.tail)

    @property
    def lead(self) -> tuple[Tokens, ...]:
        """Prefix and exchanges: what stands before the passages."""
        return self.pieces[: 1 + self.num_history]

    @property
    def passages(self) -> tuple[Tokens, ...]:
        return self.pieces[1 + self.num_history :]

    @property
    def num_passages(self) -> int:
        return len(self.passages)

    @property
    def num_passage_tokens(self) -> int:
        return sum(map(len, self.passages))

    @property
    def num_stale(self) -> int:
        """Passages that stand elsewhere than right behind the prefix."""
        return self.num_passages if self.num_history else max(0, self.num_passages - 1)

    def of_lead(self) -> "Plan":
        """A plan for prefix and exchanges alone."""
        num = len(self.lead)
        return replace(self, pieces=self.lead, path=self.path[:num], tail=(), neighbours=())


class Planner:
    def __init__(self, decoder: Decoder, prompt: Prompt, config: GeneratorConfig) -> None:
        self._decoder, self._prompt, self._config = decoder, prompt, config

    def plan(self, request: GenerateRequest) -> Plan:
        """A conversation that is too long loses its oldest exchanges. A question that leaves too
        little room loses the last passages, then tokens of the answer. Raises RequestError for a
        prompt that is empty, ContextLengthError for one that is too long by itself."""
        root = make_root(self._decoder.fingerprint, request.tenant)
        if request.raw_prompt is not None:
            tokens = self._prompt.completion(request.raw_prompt)
            plan, field = Plan(root, (), (), tokens, tokens), "prompt"
        else:
            plan, field = self._of_conversation(root, request), "messages"
        if not plan.tail:
            raise RequestError(field, "must not be empty")
        left = self._room(0) - plan.num_tokens
        if left < 1:
            raise ContextLengthError(
                field,
                f"prompt has {plan.num_tokens} tokens, at most {self._room(1)} are allowed",
            )
        return replace(plan, max_new=min(request.sampling.max_tokens, left))

    def fit(self, request: FitRequest) -> int:
        """How many of the oldest exchanges have to go, so that passages of the given size, at most
        half of the room, fit behind the others. Raises RequestError."""
        room = self._room(request.max_tokens)
        around = self._prompt.num_passage_tokens("")
        longest = min(request.passage_tokens + around, self._prompt.config.max_passage_tokens)
        reserved = min(request.num_passages * longest, room // 2)
        options = dict(request.chat_template_kwargs)
        return self._num_too_many(Conversation.of(request.messages), options, room - reserved)

    def _of_conversation(self, root: Root, request: GenerateRequest) -> Plan:
        said = Conversation.of(request.messages)
        options = dict(request.chat_template_kwargs)
        room = self._room(request.sampling.max_tokens)
        asked = _size(self._prompt.conversation(said.without(len(said.history)).messages, options))
        passages = self._fitting(request.passages, room - asked)
        gone = self._num_too_many(said, options, room - sum(map(len, passages)))
        turns = self._prompt.conversation(said.without(gone).messages, options)
        pieces = (turns.head, *turns.history, *passages)
        own_prefix = turns.head != self._prompt.prefix
        sizes = map(self._prompt.num_passage_tokens, request.passages)
        lengths = [*map(len, passages), *[0] * (len(request.passages) - len(passages))]
        return Plan(
            root,
            pieces,
            make_path(root, pieces, self._decoder.layout, own_prefix),
            self._prompt.raw(said.question),
            turns.tail,
            request.neighbours[: len(passages)],
            num_history=len(turns.history),
            num_left_out=said.num_messages(gone),
            cuts=tuple(
                Cut(i, size, kept)
                for i, (size, kept) in enumerate(zip(sizes, lengths, strict=True))
                if size > kept
            ),
        )

    def _fitting(self, texts: Sequence[str], room: int) -> tuple[Tokens, ...]:
        """As many of the first passages as have room."""
        passages = [self._prompt.passage(text) for text in texts]
        ends = accumulate(map(len, passages))
        return tuple(p for p, end in zip(passages, ends, strict=True) if end <= room)

    def _num_too_many(self, said: Conversation, options: Options, room: int) -> int:
        """The least number of oldest exchanges without which the others have at most `room`
        tokens; all where even that is too much."""

        def fits(gone: int) -> bool:
            kept = said.without(gone).messages
            return _size(self._prompt.conversation(kept, options)) <= room

        return bisect_left(range(len(said.history)), True, key=fits)

    def _room(self, max_tokens: int) -> int:
        return min(self._config.max_context_tokens, self._decoder.max_positions) - max_tokens


def _size(turns: Turns) -> int:
    return len(turns.head) + sum(map(len, turns.history)) + len(turns.tail)
