"""Where the cluster's processes log: their own stderr, which Ray collects."""

import logging


def to_stderr(logger: logging.Logger, form: str = "%(message)s") -> None:
    """From INFO on, in this form, and nowhere else."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter(form))
    logger.handlers = [handler]
    logger.setLevel(logging.INFO)
    logger.propagate = False
