"""The store of one node against the machine below it: memory, disk, restart, look-ahead.

Every part measures its baseline beside it, in the same process and on the same files.
"""

from tests.bench.harness import Options, Result, folder_on_disk
from tests.bench.store import disk, memory, recovery, replay, throttled
from tests.kvstore.stress import run as stress


def run(options: Options) -> Result:
    figures: dict[str, float] = {}
    rows: list[dict[str, object]] = []
    with folder_on_disk() as folder:
        for part in (memory, disk, recovery, throttled, replay):
            figures_of_part, rows_of_part = part.measure(folder, options)
            figures |= figures_of_part
            rows += rows_of_part
        seconds = 20.0 if options.quick else 60.0
        stressed = stress(seconds=seconds, processes=4, seed=options.seed)
        figures["stress_bound_violations"] = len(stressed.violations)
    return Result(
        config={"folder": "a file system on disk", "quick": options.quick},
        figures=figures,
        rows=rows,
    )
