"""A request's prompt as a chain of segments, and where its prefix is kept."""

import pytest

from actors.engine.config import GeneratorConfig, PromptConfig
from actors.engine.models import Decoder
from actors.engine.plan import Plan, Planner
from actors.engine.prompt import Prompt
from actors.errors import ContextLengthError, RequestError
from actors.messages import Cut, FitRequest, GenerateRequest, Message, Sampling
from kvstore.types import EVERYWHERE

QUESTION = Message("user", "Who was it?")


def plan(decoder: Decoder, prompt: Prompt, *messages: Message) -> Plan:
    texts = ("It was Ada.", "It was not.")
    request = GenerateRequest("r", "tenant", messages, texts, Sampling(), timeout_s=1.0)
    return Planner(decoder, prompt, GeneratorConfig()).plan(request)


def test_the_configured_prefix_is_everywhere_and_a_clients_own_has_owners_as_a_passage_has(
    decoder: Decoder, prompt: Prompt
) -> None:
    configured = plan(decoder, prompt, QUESTION)
    own = plan(decoder, prompt, Message("system", "Be brief."), QUESTION)
    assert configured.path[0].key.placement == EVERYWHERE and not configured.own_prefix
    assert own.path[0].key.placement == own.path[0].tag and own.own_prefix
    for path in (configured.path, own.path):
        assert {spec.key.placement for spec in path[1:]} == {path[1].tag}
    same = plan(decoder, prompt, Message("system", PromptConfig().system), QUESTION)
    assert same.path == configured.path, "what counts is the text, not who said it"


def chat(*lengths: int) -> tuple[Message, ...]:
    """Exchanges of so many words each, then a question."""
    turns = [(Message("user", "word " * n), Message("assistant", "Yes.")) for n in lengths]
    return (*(message for turn in turns for message in turn), QUESTION)


def test_exchanges_are_pieces_between_prefix_and_passages(decoder: Decoder, prompt: Prompt) -> None:
    alone, behind = plan(decoder, prompt, QUESTION), plan(decoder, prompt, *chat(3, 5))
    assert behind.pieces[0] == alone.pieces[0] and behind.tail == alone.tail
    assert behind.num_history == 2 and behind.passages == alone.passages == alone.pieces[1:]
    assert (alone.num_stale, behind.num_stale) == (1, 2)
    next_turn = plan(decoder, prompt, *chat(3, 5, 2))
    assert next_turn.path[:3] == behind.path[:3] == behind.of_lead().path
    assert behind.question == prompt.raw(QUESTION.content)


def test_the_question_is_the_users_last_message_whoever_spoke_last(
    decoder: Decoder, prompt: Prompt
) -> None:
    continued = plan(decoder, prompt, *chat(3), Message("assistant", ""))
    assert continued.question == prompt.raw(QUESTION.content) and continued.num_history == 1


def test_a_conversation_that_is_too_long_loses_its_oldest_exchanges(
    decoder: Decoder, prompt: Prompt
) -> None:
    lead = Message("system", "Be brief.")
    lengths = [60] * 9

    def planned(room: int, *messages: Message) -> Plan:
        request = GenerateRequest("r", "t", messages, ("It was Ada.",), Sampling(10), timeout_s=1.0)
        config = GeneratorConfig(max_context_tokens=room, max_new_tokens=10, default_new_tokens=1)
        return Planner(decoder, prompt, config).plan(request)

    whole = planned(4000, lead, *chat(*lengths))
    assert whole.num_left_out == 0 and whole.num_history == 9
    each = len(whole.pieces[2])
    for num_gone in (1, 4, 9):
        room = whole.num_tokens - num_gone * each
        shorter = planned(room + 10, lead, *chat(*lengths))
        assert (shorter.num_history, shorter.num_left_out) == (9 - num_gone, 2 * num_gone)
        assert shorter.num_tokens <= room and shorter.pieces[0] == whole.pieces[0]
        assert shorter.pieces[1:] == whole.pieces[1 + num_gone :]
    with pytest.raises(RequestError, match="at most 20 are"):
        planned(21, lead, *chat(*lengths))


def test_a_long_question_is_kept_whole_and_the_last_passages_and_the_answer_give_way(
    decoder: Decoder, prompt: Prompt
) -> None:
    texts = tuple(f"It was {name}." for name in ("Ada", "Bob", "Cy"))
    question = Message("user", "word " * 100)

    def planned(room: int, max_tokens: int = 50) -> Plan:
        config = GeneratorConfig(max_context_tokens=room, max_new_tokens=50, default_new_tokens=1)
        sampling = Sampling(max_tokens)
        digests = (b"a", b"b", b"c")
        request = GenerateRequest(
            "r", "t", (*chat(5)[:-1], question), texts, sampling, 1.0, neighbours=digests
        )
        return Planner(decoder, prompt, config).plan(request)

    whole = planned(4000)
    assert (whole.num_passages, whole.max_new, whole.cuts) == (3, 50, ())
    history = len(whole.pieces[1])
    least = whole.num_tokens - history - whole.num_passage_tokens
    room = least + sum(map(len, whole.passages[:2]))
    two = planned(room + 50)
    assert two.passages == whole.passages[:2] and two.neighbours == (b"a", b"b")
    assert (two.num_left_out, two.max_new) == (2, 50)
    assert two.cuts == (Cut(2, len(whole.passages[2]), 0),)
    assert planned(room + 50 + 1).passages == whole.passages[:2]
    assert planned(room + 50 + len(whole.passages[2])).passages == whole.passages
    none = planned(least + 7)
    assert (none.passages, none.max_new, none.tail) == ((), 7, whole.tail)
    assert planned(least + 7, max_tokens=3).max_new == 3
    with pytest.raises(ContextLengthError, match=f"has {least} tokens, at most {least - 1} are"):
        planned(least)


def test_room_is_kept_for_passages_that_are_still_to_be_found(
    decoder: Decoder, prompt: Prompt
) -> None:
    planner = Planner(decoder, prompt, GeneratorConfig(max_context_tokens=1000))

    def gone(num_passages: int, max_tokens: int = 100) -> int:
        request = FitRequest(chat(*[80] * 9), num_passages, 100, max_tokens, timeout_s=1.0)
        return planner.fit(request)

    assert gone(0) == 0 < gone(1) < gone(3)
    assert gone(8) == gone(100), "never more than half of the room"
    assert gone(0, max_tokens=400) > 0
    assert planner.fit(FitRequest((QUESTION,), 3, 100, 10, timeout_s=1.0)) == 0


def test_a_passage_that_is_cut_is_said(decoder: Decoder) -> None:
    short = Prompt(decoder.tokenizer, PromptConfig(max_passage_tokens=20))
    texts = ("It was Ada.", "word " * 50)
    request = GenerateRequest("r", "t", (QUESTION,), texts, Sampling(), timeout_s=1.0)
    made = Planner(decoder, short, GeneratorConfig()).plan(request)
    assert made.cuts == (Cut(1, short.num_passage_tokens(texts[1]), 20),)
