import subprocess
import sys

CODE = """
import logging
from actors.logs import speak
logging.getLogger("actors.engine.proof").info("before")
speak(); speak()
logging.getLogger("actors.engine.proof").info("figures")
logging.getLogger("another").info("hidden")
"""


def test_a_replica_says_once_what_it_has_to_say() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("INFO ") and line.endswith(" actors.engine.proof: figures")
