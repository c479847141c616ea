"""Settings of the test process, made before torch is loaded."""

import os
from pathlib import Path

# Idle threads sleep instead of spinning: on a machine that does other work as well, spinning makes
# every parallel region wait for a thread that is not running.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# Without a GPU, Triton kernels run in its interpreter, which is chosen when triton is loaded.
if not Path("/dev/nvidiactl").exists():
    os.environ.setdefault("TRITON_INTERPRET", "1")
