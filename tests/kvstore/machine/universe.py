"""Every segment that the machine ever asks for: few enough to meet again, more than fit."""

from collections.abc import Collection, Sequence
from functools import cache

from kvstore.keys import make_path, make_root
from kvstore.types import Layout, Path, SegmentKey, SegmentSpec
from tests.kvstore.segments import TRUNK, passage, payload

NUM_PASSAGES = 6
_SINGLES: list[tuple[int, ...]] = [(a,) for a in range(NUM_PASSAGES)]
_CHAINS = [(), *_SINGLES, *((a, b) for a in range(NUM_PASSAGES) for b in range(NUM_PASSAGES))]
_LAYOUT = Layout(num_layers=3, num_kv_heads=2, num_tokens=0, head_dim=8, dtype="float32")


def _paths(tenant: str, chains: Sequence[tuple[int, ...]]) -> dict[tuple[str | int, ...], Path]:
    root = make_root(b"model", tenant)
    return {
        (tenant, *chain): make_path(
            root, [TRUNK, *(passage(n, 8 + 24 * (n % 4)) for n in chain)], _LAYOUT
        )
        for chain in chains
    }


_NAMED = _paths("one", _CHAINS) | _paths("two", _CHAINS[: 1 + NUM_PASSAGES])
PATHS: list[Path] = list(_NAMED.values())
"""Of one tenant the prompt prefix, and behind it one passage or two; of another up to one."""
NAMES = {path[-1].key: name for name, path in _NAMED.items()}
"""Of each segment the tenant and the passages of its chain, by number: for messages."""
SPECS: dict[SegmentKey, SegmentSpec] = {path[-1].key: path[-1] for path in PATHS}
KEYS = list(SPECS)
_PASSAGES = [path[-1] for path in PATHS if len(path) == 2]
TAGS = [spec.tag for spec in _PASSAGES]
"""Of the passages, each wherever it stands."""
PLACEMENTS = [spec.key.placement for spec in _PASSAGES]


def family(tags: Collection[bytes]) -> set[SegmentKey]:
    """What a removal of these passages takes: their segments, and all that follows one."""
    return {path[-1].key for path in PATHS if any(spec.tag in tags for spec in path)}


@cache
def content(key: SegmentKey) -> bytes:
    """The one right content of a segment."""
    return payload(SPECS[key])
