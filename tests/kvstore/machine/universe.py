"""Every segment that the machine ever asks for: few enough to meet again, more than fit."""

from collections.abc import Collection
from functools import cache

from kvstore.types import Path, SegmentKey, SegmentSpec
from tests.kvstore.segments import TRUNK, chain_of, passage, payload

NUM_PASSAGES = 6
_CHAINS: list[tuple[int, ...]] = [
    *((a,) for a in range(NUM_PASSAGES)),
    *((a, b) for a in range(NUM_PASSAGES) for b in range(NUM_PASSAGES)),
]
PATHS: list[Path] = [chain_of(TRUNK)] + [
    chain_of(TRUNK, *(passage(n, 8 + 24 * (n % 4)) for n in chain)) for chain in _CHAINS
]
"""The prompt prefix, and behind it one passage or two."""
NAMES = dict(zip((path[-1].key for path in PATHS), [(), *_CHAINS], strict=True))
"""Of each segment the passages of its chain, by number: for messages."""
SPECS: dict[SegmentKey, SegmentSpec] = {path[-1].key: path[-1] for path in PATHS}
KEYS = list(SPECS)
TAGS = [path[-1].tag for path in PATHS[1 : 1 + NUM_PASSAGES]]
"""Of the passages, each wherever it stands."""
PLACEMENTS = [path[-1].key.placement for path in PATHS[1 : 1 + NUM_PASSAGES]]


def family(tags: Collection[bytes]) -> set[SegmentKey]:
    """What a removal of these passages takes: their segments, and all that follows one."""
    return {path[-1].key for path in PATHS if any(spec.tag in tags for spec in path)}


@cache
def content(key: SegmentKey) -> bytes:
    """The one right content of a segment."""
    return payload(SPECS[key])
