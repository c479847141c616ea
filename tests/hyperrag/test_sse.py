import pytest

from hyperrag.sse import event_data

STREAM = (
    "\ufeffdata: first\n\n"
    ": keep-alive\n\n"
    "event: x\ndata:second\nid: 3\r\n\r\n"
    "data: a\u2028b\u2029c\u0085d\x0be\x1cf\r\r"
    "data: of\ndata:  two lines\n\n"
    "data\n\n"
    "\n\n"
    "data: broken off\n"
).encode()
DATA = ["first", "second", "a\u2028b\u2029c\u0085d\x0be\x1cf", "of\n two lines", ""]


@pytest.mark.parametrize("size", [*range(1, 9), len(STREAM)])
def test_events_are_the_same_however_they_are_cut(size: int) -> None:
    chunks = [STREAM[i : i + size] for i in range(0, len(STREAM), size)]
    assert [data.decode() for data in event_data(iter(chunks))] == DATA


def test_a_line_that_ends_its_chunk_does_not_wait_for_the_next() -> None:
    told: list[bytes] = []

    def chunks() -> object:
        yield b"data: x\r\r"
        assert told == [b"x"], "taken before anything else came"
        yield b"\ndata: y\r\n\r"

    for data in event_data(chunks()):  # type: ignore[arg-type]
        told.append(data)
    assert told == [b"x", b"y"]
