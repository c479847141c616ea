"""Configurations that the machine walks through."""

from pathlib import Path
from typing import Any

from kvstore.config import POLICIES

Settings = dict[str, Any]
_VARIANTS: list[Settings] = [
    {},
    {"remote": "file://{folder}/bucket", "remote_bytes": 2**18, "remote_timeout_s": 60.0},
    *({"policy": policy} for policy in POLICIES),
    {"ssd_admission": "second_use"},
    {"verify_dram": "always"},
    {"copies_share": 0.1, "scrub_bytes_per_s": 1e9},
    {"tenant_share": 0.5},
    {"prefetch": False, "write_queue": 1},
]
NUM_VARIANTS = len(_VARIANTS)


def variant_of(number: int, folder: Path) -> Settings:
    """Settings that differ from the machine's; what they name is below the folder."""
    settings = _VARIANTS[number % NUM_VARIANTS]
    return {
        name: value.format(folder=folder) if isinstance(value, str) else value
        for name, value in settings.items()
    }
