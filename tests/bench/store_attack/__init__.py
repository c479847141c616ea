"""What is done to the store to make it wrong, slow, forgetful or rude; each figure counts or times
what came of it.

Sizes are the same in a quick run, which repeats less. Times of the metadata lock are of 300,000
entries of one granule each, in memory, the oldest of them on a disk of memory too.
"""

from tests.bench.harness import Options, Result
from tests.bench.store_attack import (
    deleting,
    evicting,
    locking,
    sharing,
    strangers,
    threads,
    walking,
)  # fmt: skip

_PARTS = (locking, evicting, sharing, strangers, threads, walking, deleting)


def run(options: Options) -> Result:
    figures: dict[str, float] = {}
    rows: list[dict[str, object]] = []
    for part in _PARTS:
        figures_of_part, rows_of_part = part.measure(options)
        for name, value in figures_of_part.items():
            figures[name] = figures.get(name, 0) + value
        rows += rows_of_part
    config = {
        "seed": options.seed,
        "entries": locking.NUM_ENTRIES,
        "segments": evicting.NUM_SEGMENTS,
        "objects": sharing.NUM_OBJECTS,
        "quick": options.quick,
    }
    return Result(config, figures, rows)
