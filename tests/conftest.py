"""Settings of the test process, made before torch is loaded."""

import os
import signal
from pathlib import Path

from hypothesis import settings

# Idle threads sleep instead of spinning: on a machine that does other work as well, spinning makes
# every parallel region wait for a thread that is not running.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# A shell starts what runs in its background with Ctrl-C ignored, and that is inherited: services
# that tests interrupt would not notice.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Without a GPU, Triton kernels run in its interpreter, which is chosen when triton is loaded.
if not Path("/dev/nvidiactl").exists():
    os.environ.setdefault("TRITON_INTERPRET", "1")

# Time is measured by benchmarks. A busy machine makes an example slow, not wrong.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
