"""In a process of its own: what survives a full collection is not looked through again."""

import subprocess
import sys

_SCRIPT = """
import gc
from kvstore.garbage import freeze_survivors
freeze_survivors()
freeze_survivors()
records = [[i] for i in range(100_000)]
gc.collect()
assert gc.get_count()[2] == 0 and gc.get_freeze_count() >= 100_000
assert len(gc.get_objects()) < 10_000, len(gc.get_objects())
loop = []
loop.append(loop)
del loop
assert gc.collect() >= 1
"""


def test_full_collections_look_at_what_is_new() -> None:
    done = subprocess.run([sys.executable, "-c", _SCRIPT], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
