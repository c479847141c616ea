"""Settings of the test process, made before torch is loaded."""

import os

# Idle threads sleep instead of spinning: on a machine that does other work as well, spinning makes
# every parallel region wait for a thread that is not running.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
