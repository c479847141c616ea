"""The model fingerprint: digest of everything that decides the bytes of a KV cache.

What counts is a rule, and what does not is a list: a file or a setting that nobody thought of makes
another fingerprint, which costs a computation, and never shares KV with a model that it is not.

Every file of the model's folder counts by content: weights of any format, tokenizer, whatever a
loader may read. Every setting of the configuration counts as transformers understood it, with the
defaults of what the file leaves out: norm epsilon, activation, layer types, soft-caps, attention
scale, window, RoPE, quantisation. The computation's dtype and the KV's shape count too. Prompts and
chat templates do not: they become tokens, which are in the key of each segment.
"""

import json
import os
from collections.abc import Iterator
from fnmatch import fnmatchcase
from hashlib import blake2b, sha256
from pathlib import Path
from typing import Any

from kvstore.types import Dtype, Layout

CONFIG = "config.json"
COSMETIC_FILES = (
    ".*",  # of version control and download tools
    "*.md", "LICENSE*", "NOTICE*", "*.png", "*.jpg", "*.jpeg", "*.gif", "*.svg", "*.pdf",
    "*.jinja",  # chat templates
    "generation_config.json",  # how tokens are drawn
    "training.json", "training.checkpoint", "trainer_state.json", "training_args.bin",
    "optimizer.pt", "scheduler.pt", "rng_state*.pth",  # how the weights came about
)  # fmt: skip
"""Names of files that change no KV."""
COSMETIC_FOLDERS = (".*", "__pycache__", "checkpoint-*", "runs")
"""Names of folders below the model's that no loader looks into."""
COSMETIC_KEYS = frozenset(
    {
        "_name_or_path", "name_or_path",  # where it was loaded from
        "transformers_version",  # what wrote the file
    }
)  # fmt: skip
"""Settings that change no KV, wherever they stand in the configuration."""


def files_digest(folder: Path, without: str = "") -> bytes:
    """Digest of every file that is not cosmetic, but for one name, by name and content; about 1 s
    per GB.

    SHA-256 has instructions of its own on today's processors: 2.6 times as fast as BLAKE2b.
    """
    state = sha256()
    for name in sorted(_counting_files(folder)):
        if name != without:
            state.update(f"{name}\0{(folder / name).stat().st_size}\0".encode())
            _add_file(state, folder / name)
    return state.digest()


def fingerprint(folder: Path, config: Any, layout: Layout, dtype: Dtype) -> bytes:
    """32 bytes; two models, dtypes or settings never share one, copies of a folder do.

    `config` is the transformers configuration of the decoder.
    """
    facts = {
        "config": _counting_settings(config.to_dict()),
        "layers": [layout.num_layers, layout.num_kv_heads, layout.head_dim],
        "dtype": dtype,
    }
    text = json.dumps(facts, sort_keys=True, default=str).encode()
    return blake2b(files_digest(folder, without=CONFIG) + text, digest_size=32).digest()


def _counting_files(folder: Path) -> Iterator[str]:
    """Paths below the folder, with slashes. Links count as what they lead to: a hub's cache
    consists of them."""
    seen = set[tuple[int, int]]()
    for where, folders, files in os.walk(folder, followlinks=True):
        found, below = os.stat(where), Path(where).relative_to(folder)
        is_new = (found.st_dev, found.st_ino) not in seen  # a link may lead back
        seen.add((found.st_dev, found.st_ino))
        folders[:] = [n for n in folders if is_new and not _matches(n, COSMETIC_FOLDERS)]
        for name in files:
            if is_new and not _matches(name, COSMETIC_FILES) and (folder / below / name).is_file():
                yield (below / name).as_posix()


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _counting_settings(settings: Any) -> Any:
    """The same without cosmetic keys, at every depth."""
    if isinstance(settings, dict):
        items = ((str(key), value) for key, value in settings.items())
        return {k: _counting_settings(v) for k, v in items if k not in COSMETIC_KEYS}
    if isinstance(settings, list | tuple):
        return [_counting_settings(value) for value in settings]
    return settings


def _add_file(state: Any, path: Path) -> None:
    """Update a hashlib digest with a file's content."""
    with path.open("rb") as file:
        while block := file.read(1 << 24):
            state.update(block)
