import time
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

import pytest

from kvstore.pending import PendingWindow
from kvstore.types import SegmentKey
from tests.kvstore.segments import chain_of

ONE, OTHER = b"one     ", b"other   "
KEYS = [spec.key for spec in chain_of([1], [2], [3], [4])]


def test_keys_are_in_the_order_of_need_and_go_when_nobody_needs_them() -> None:
    window = PendingWindow()
    window.announce("a", ONE, KEYS[:2], 60)
    window.announce("b", ONE, KEYS[1:3], 60)
    assert window.keys() == KEYS[:3]
    window.retire("a")
    window.retire("a")
    assert window.keys() == KEYS[1:3] and KEYS[0] not in window and KEYS[1] in window


def many(first: int, num: int) -> list[SegmentKey]:
    return [SegmentKey(bytes(8), n.to_bytes(32, "little")) for n in range(first, first + num)]


def test_one_request_and_one_tenant_fill_a_part_of_the_window() -> None:
    window = PendingWindow(max_keys=640)
    window.announce("long", ONE, many(0, 100), 60)
    assert window.keys() == many(0, 10), "the most urgent of it"
    for n in range(1, 20):
        window.announce(f"request {n}", ONE, many(100 * n, 100), 60)
    assert len(window) == 80
    window.announce("other", OTHER, many(9000, 10), 60)
    assert all(key in window for key in many(9000, 10)), "the others' look-ahead goes on"
    window.retire("long")
    window.announce("again", ONE, many(500, 5), 60)
    assert len(window) == 85


def test_the_window_is_bounded() -> None:
    window = PendingWindow(max_keys=640)
    for n in range(100):
        window.announce(f"request {n}", n.to_bytes(8, "little"), many(10 * n, 10), 60)
    assert len(window) == 640 and window.keys() == many(0, 640)


def test_what_is_needed_next_changes_with_the_window() -> None:
    window = PendingWindow()
    window.announce("a", ONE, KEYS[:2], 60)
    window.announce("b", ONE, KEYS[1:3], 60)
    assert window.next_use(1) == {KEYS[0]: 0, KEYS[1]: 0}
    assert window.next_use(2) == {KEYS[0]: 0, KEYS[1]: 0, KEYS[2]: 1}
    window.retire("a")
    assert window.next_use(1) == window.next_use(2) == {KEYS[1]: 0, KEYS[2]: 0}


def test_announcements_end_at_their_deadline() -> None:
    window = PendingWindow()
    window.announce("a", ONE, KEYS, 0.01)
    time.sleep(0.02)
    assert window.expire_one() and not window.expire_one()
    assert len(window) == 0 and KEYS[0] not in window


def test_an_announcement_that_was_renewed_ends_at_its_last_deadline() -> None:
    window = PendingWindow()
    window.announce("a", ONE, KEYS, 0.01)
    window.announce("a", ONE, KEYS, 60)
    time.sleep(0.02)
    while window.expire_one():
        pass
    assert window.keys() == KEYS


def test_what_is_announced_again_and_again_takes_no_more_memory() -> None:
    window = PendingWindow()
    for n in range(1000):
        window.announce("a", ONE, KEYS, 60)
        window.announce(str(n), ONE, KEYS, 60)
        window.retire(str(n))
    assert len(window._expiries) == 1 and window.keys() == KEYS


def test_an_announcement_looks_at_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many there are: the store's lock is held meanwhile."""
    window = PendingWindow()
    for n in range(2000):
        window.announce(str(n), n.to_bytes(8, "little"), KEYS[:1], 60)
    looked_at: list[object] = []

    class Requests(OrderedDict[str, object]):
        def __iter__(self) -> Iterator[str]:
            looked_at.append(self)
            return super().__iter__()

        def items(self) -> Any:
            looked_at.append(self)
            return super().items()

    monkeypatch.setattr(window, "_requests", Requests(window._requests))
    looked_at.clear()
    for n in range(10):
        window.announce(f"more {n}", ONE, KEYS[:1], 60)
    assert not looked_at and len(window) == 2010
