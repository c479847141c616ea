"""What of a chat stays, what can be left out, and what of it is searched for."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.conversation import GAP, Conversation, excerpt, joined
from actors.errors import RequestError
from actors.messages import Message


def said(*roles: Any) -> list[Message]:
    return [Message(role, f"{role} {i}") for i, role in enumerate(roles)]


@pytest.mark.parametrize(
    ("roles", "lead", "history", "asked"),
    [
        (["user"], 0, [], 1),
        (["system", "system", "user"], 2, [], 1),
        (["user", "assistant", "user"], 0, [2], 1),
        (["system", "assistant", "user", "assistant"], 1, [1], 2),
        (["user", "assistant", "system", "user", "user", "system"], 0, [3, 1], 2),
        (["assistant", "system", "user", "assistant", "user"], 0, [2, 2], 1),
    ],
)
def test_parts(roles: list[str], lead: int, history: list[int], asked: int) -> None:
    messages = said(*roles)
    parts = Conversation.of(messages)
    sizes = [len(exchange) for exchange in parts.history]
    assert (len(parts.lead), sizes, len(parts.asked)) == (lead, history, asked)
    assert parts.messages == tuple(messages)
    kept = parts.without(1).messages
    gone = parts.num_messages(1)
    assert kept == (*messages[:lead], *messages[lead + gone :])
    assert parts.question == [m.content for m in messages if m.role == "user"][-1]


def test_questions_are_the_users_last_oldest_first() -> None:
    parts = Conversation.of(said("system", "user", "assistant", "user", "user", "assistant"))
    assert parts.questions(1) == ("user 4",)
    assert parts.questions(2) == ("user 3", "user 4")
    assert parts.questions(9) == ("user 1", "user 3", "user 4")


@pytest.mark.parametrize("messages", [[], said("system"), said("assistant")])
def test_without_a_user_there_is_no_conversation(messages: list[Message]) -> None:
    with pytest.raises(RequestError, match="role user"):
        Conversation.of(messages)


def test_turns_are_joined_the_latest_first_as_long_as_they_fit() -> None:
    earlier = ("first turn", "a second", "third")

    def text(limit: int) -> str:
        return joined(earlier, "and now?", lambda t: len(t) <= limit)

    assert text(100) == "first turn\na second\nthird\nand now?"
    assert text(14) == "third\nand now?"
    assert text(3) == "and now?", "the question itself is somebody else's to refuse"


def test_an_excerpt_is_as_much_of_both_ends_as_fits_in_whole_words() -> None:
    text = "What is this about? " + "pasted text " * 50 + "Answer in one word."
    short = excerpt(text, lambda t: len(t) <= 60)
    assert short == f"What is this about? pasted{GAP}text Answer in one word."
    assert excerpt(text, lambda t: True) == text


@given(st.text(min_size=1, max_size=300), st.integers(6, 200))
def test_an_excerpt_fits_and_is_made_of_ends(text: str, most: int) -> None:
    short = excerpt(text, lambda t: len(t) <= most)
    assert len(short) <= most
    if short != text:
        head, tail = short.split(GAP) if short.count(GAP) == 1 else ("", "")
        assert (
            text.startswith(head) and text.endswith(tail.rstrip()) or text.rstrip().endswith(tail)
        )
