"""What a replica logs, from INFO on: on the stderr of its process, which Ray collects.

Serve sets a level for its own loggers alone, and Python says nothing below WARNING by itself.
"""

import logging

_FORM = "%(levelname)s %(asctime)s %(name)s: %(message)s"


def speak() -> None:
    """For a process that a deployment has for itself. Idempotent."""
    logger = logging.getLogger("actors")
    if not logger.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter(_FORM))
        logger.addHandler(handler)
    logger.setLevel(logging.INFO)
