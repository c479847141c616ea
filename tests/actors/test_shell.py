"""The shard's shell without Ray: what its threads do at once."""

import threading
from collections.abc import Iterator
from pathlib import Path as FilePath

import pytest

from actors.shard import KVShardShell
from kvstore.copies import Owns
from kvstore.membership import Member, Membership
from tests.actors.visiting import Gate
from tests.kvstore.segments import chain_of, passage, small_config

KEY = chain_of([7] * 8, passage(1))[-1].key


@pytest.fixture
def shell(tmp_path: FilePath, monkeypatch: pytest.MonkeyPatch) -> Iterator[KVShardShell]:
    """In this process, whose garbage is its own affair."""
    monkeypatch.setattr("actors.shard.freeze_survivors", lambda: None)
    shell = KVShardShell(small_config(tmp_path), "a")
    yield shell
    shell.close(10.0)


def member(name: str) -> Member:
    return Member(name, name, 100)


def test_of_two_memberships_at_once_the_later_one_is_followed(
    shell: KVShardShell, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, own = Gate(), shell._store.own

    def slow_at_first(owns: Owns) -> None:
        if not gate.reached.is_set():
            gate.pass_through()
        own(owns)

    monkeypatch.setattr(shell._store, "own", slow_at_first)
    others, mine = Membership(1, (member("b"),)), Membership(2, (member("a"),))
    threads = [threading.Thread(target=shell.follow, args=(m,)) for m in (others, mine)]
    threads[0].start()
    gate.await_copy()
    threads[1].start()
    threads[1].join(0.5)  # without a lock it is done now
    gate.open()
    for thread in threads:
        thread.join(60)
    assert shell.membership().epoch == 2
    assert shell._store._books.owns([KEY]) == [True], "as the later one says"
