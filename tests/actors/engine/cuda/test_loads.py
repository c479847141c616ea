"""Importing the package needs neither triton nor a GPU."""

import subprocess
import sys

_SCRIPT = """
import sys
sys.modules["triton"] = None
import actors.engine.cuda as cuda
assert not [name for name in sys.modules if name.endswith("kernel") and "cuda." in name]
assert all(hasattr(cuda, name) for name in cuda.__all__)
"""


def test_the_package_loads_without_triton() -> None:
    done = subprocess.run([sys.executable, "-c", _SCRIPT], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
