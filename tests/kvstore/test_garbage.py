"""In processes of their own: what survives a full collection is not looked through again, and no
freed memory waits to be joined."""

import ctypes
import subprocess
import sys

import pytest

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


_FREED = """
import ctypes
import sys
from kvstore.garbage import join_freed_blocks


class MallInfo(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in "arena num small mapped mapped_bytes peak \\
        fast taken free top".split()]


libc = ctypes.CDLL(None)
libc.mallinfo2.restype = MallInfo
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
if "join" in sys.argv:
    join_freed_blocks()
    join_freed_blocks()
for block in [libc.malloc(64) for _ in range(20_000)]:
    libc.free(block)
print(libc.mallinfo2().fast)
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="not of this glibc")
def test_freed_blocks_do_not_wait_to_be_joined() -> None:
    def waiting(*arguments: str) -> int:
        """Bytes."""
        command = [sys.executable, "-c", _FREED, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return int(done.stdout)

    assert waiting() > 20_000 * 64 // 2, "what is to be shown"
    assert waiting("join") == 0
