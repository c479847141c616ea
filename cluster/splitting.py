"""Which replica ranks which passages: each its own part of the corpus, so that the device tiers of
R replicas are one cache R times as large.

By rendezvous hashing, with bounded loads (Mirrokni, Thorup and Zadimoghaddam, "Consistent hashing
with bounded loads", 2018): who has its share and more of what is open passes on to the next.
"""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np

from kvstore.membership import Rendezvous

SPILL = 2.0
"""A replica takes at most so many times its even share, and of two at most three quarters."""


@dataclass(frozen=True, slots=True)
class Part:
    replicas: tuple[str, ...]
    """Whom to ask, best first."""
    indices: tuple[int, ...]
    """Of the texts."""


def split(
    texts: Sequence[str],
    replicas: Sequence[str],
    open_texts: Mapping[str, int],
    chance: float = 0.0,
) -> list[Part]:
    """Parts of a request, one for anybody where there is nothing to choose. `open_texts` is what
    each replica has to do for this caller already; `chance` as of `bound_of`."""
    if len(replicas) < 2 or not texts:
        return [Part((), tuple(range(len(texts))))]
    order = Rendezvous(dict.fromkeys(replicas, 1))
    ranked = order.rank(np.array([_placement(text) for text in texts], np.uint64), len(replicas))
    bound = bound_of(replicas, open_texts, len(texts), chance)
    load = {name: open_texts.get(name, 0) for name in replicas}
    parts: dict[str, list[int]] = {}
    orders: dict[str, tuple[str, ...]] = {}
    for i, row in enumerate(ranked):
        names = [order.names[j] for j in row]
        name = next((n for n in names if load[n] < bound), names[0])
        load[name] += 1
        parts.setdefault(name, []).append(i)
        orders.setdefault(name, (name, *(n for n in names if n != name)))
    return [Part(orders[name], tuple(indices)) for name, indices in parts.items()]


def bound_of(
    replicas: Sequence[str], open_texts: Mapping[str, int], num_new: int, chance: float = 0.0
) -> int:
    """What a replica has at most, open and new; and never less than falls to it where all are as
    likely, `chance` standard deviations over its share."""
    total = sum(open_texts.get(name, 0) for name in replicas) + num_new
    share = total / len(replicas)
    by_chance = share + chance * math.sqrt(share * (1 - 1 / len(replicas)))
    return math.ceil(max(min(SPILL * share, (share + total) / 2), by_chance))


@contextmanager
def counted(open_texts: Counter[str], replicas: Sequence[str], num: int) -> Iterator[None]:
    """So much more to do for the first of the replicas, for as long as it takes."""
    busy = Counter(dict.fromkeys(replicas[:1], num))
    open_texts.update(busy)
    try:
        yield
    finally:
        open_texts.subtract(busy)


def _placement(text: str) -> int:
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little")
