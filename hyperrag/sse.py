"""The data of server-sent events, from the bytes of a response.

A line ends at \\n, \\r\\n or \\r and nowhere else. httpx and `str.splitlines` also cut at U+2028,
U+2029 and U+0085, which a JSON text may contain as they are.
"""

import re
from collections.abc import Iterator

_END = re.compile(rb"\r\n|\n|\r")
_BOM = b"\xef\xbb\xbf"


def event_data(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """The data of each whole event. Comments, other fields and an event that breaks off are
    left out."""
    data: list[bytes] = []
    for line in _lines(chunks):
        name, _, value = line.partition(b":")
        if name == b"data":
            data.append(value.removeprefix(b" "))
        elif not line and data:
            yield b"\n".join(data)
            data.clear()


def _lines(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Whole lines without their ends. \\r at the end of a chunk ends a line at once: what comes
    next may take minutes."""
    rest, first, after_return = bytearray(), True, False
    for chunk in filter(None, chunks):
        if after_return:
            chunk = chunk.removeprefix(b"\n")
        after_return = chunk.endswith(b"\r")
        *ended, last = _END.split(chunk)
        for line in ended:
            rest += line
            yield bytes(rest).removeprefix(_BOM) if first else bytes(rest)
            rest, first = bytearray(), False
        rest += last
