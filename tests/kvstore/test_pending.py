import time

from kvstore.pending import PendingWindow
from tests.kvstore.segments import chain_of

KEYS = [spec.key for spec in chain_of([1], [2], [3], [4])]


def test_keys_are_in_the_order_of_need_and_go_when_nobody_needs_them() -> None:
    window = PendingWindow()
    window.announce("a", KEYS[:2], 60)
    window.announce("b", KEYS[1:3], 60)
    assert window.keys() == KEYS[:3]
    window.retire("a")
    window.retire("a")
    assert window.keys() == KEYS[1:3] and KEYS[0] not in window and KEYS[1] in window


def test_the_window_is_bounded() -> None:
    window = PendingWindow(max_keys=3)
    window.announce("a", KEYS[:2], 60)
    window.announce("b", KEYS[2:], 60)
    window.announce("c", KEYS, 60)
    assert len(window) == 3 and window.keys() == KEYS[:3]


def test_announcements_end_at_their_deadline() -> None:
    window = PendingWindow()
    window.announce("a", KEYS, 0.01)
    time.sleep(0.02)
    window.expire()
    assert len(window) == 0 and KEYS[0] not in window
