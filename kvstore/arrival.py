"""How much of an extent's segment is in place: one entry of the arena's arrival table.

    0           all of it, as of any segment that is found in the arena or was committed
    n           it is being read from a slow tier, and its first n - 1 layers are verified
    2**32 - 1   the read hangs: nobody is to wait for it

The thread that reads writes the bytes of a layer first, then the entry.
"""

_HANGS = 2**32 - 1
ALL_LAYERS = _HANGS
"""More than any segment has."""


class Arrival:
    """The reading side. It needs no lock, and outlives the arena that it was taken from."""

    def __init__(self, entry: memoryview) -> None:
        """`entry` is one u32 of the table. Nothing is there yet."""
        self._entry = entry
        self.raise_to(0)

    def raise_to(self, num_layers: int) -> None:
        self._entry[0] = num_layers + 1

    def complete(self) -> None:
        """The segment is whole, and pinned under the leases that read it."""
        self._entry[0] = 0

    def hang(self) -> None:
        self._entry[0] = _HANGS


def num_arrived(entry: int) -> int:
    """Layers in place; ALL_LAYERS of a complete segment; -1 where no more is to be waited for."""
    if entry == _HANGS:
        return -1
    return entry - 1 if entry else ALL_LAYERS
