"""The store of one node against the machine below it: memory, disk, restart, look-ahead.

Every part measures its baseline beside it, in the same process and on the same files.
"""

import shutil
import tempfile
from pathlib import Path

from tests.bench.harness import Options, Result
from tests.bench.store import disk, memory, recovery, replay, throttled
from tests.kvstore.stress import run as stress

_FOLDER = Path.home() / ".cache" / "hyperrag" / "bench"
"""A disk: the system's folder for temporary files may be memory."""


def run(options: Options) -> Result:
    _FOLDER.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=_FOLDER))
    figures: dict[str, float] = {}
    rows: list[dict[str, object]] = []
    try:
        for part in (memory, disk, recovery, throttled, replay):
            figures_of_part, rows_of_part = part.measure(folder, options)
            figures |= figures_of_part
            rows += rows_of_part
        seconds = 20.0 if options.quick else 60.0
        stressed = stress(seconds=seconds, processes=4, seed=options.seed)
        figures["stress_bound_violations"] = len(stressed.violations)
    finally:
        shutil.rmtree(folder)
    return Result(
        config={"folder": "a file system on disk", "quick": options.quick},
        figures=figures,
        rows=rows,
    )
