import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from transformers import AutoConfig, Gemma3TextConfig, LlamaConfig, Qwen3Config

from actors.engine.fingerprint import (
    COSMETIC_FILES,
    COSMETIC_FOLDERS,
    COSMETIC_KEYS,
    files_digest,
    fingerprint,
)
from actors.engine.models import load_decoder
from kvstore.types import Layout
from tests.actors.training.tiny import save_tiny

LAYOUT = Layout(2, 1, 1, 8, "float32")
WEIGHTS = [
    "model.safetensors", "model-00002-of-00002.safetensors", "model.safetensors.index.json",
    "pytorch_model.bin", "weights.pt", "consolidated.00.pth", "model.gguf", "tf_model.h5",
    "flax_model.msgpack", "model.onnx", "shards/part-1.safetensors", "weights.of_tomorrow",
    "tokenizer.json", "tokenizer.model", "tokenizer_config.json", "special_tokens_map.json",
    "added_tokens.json", "vocab.txt", "merges.txt", "modeling_own.py",
]  # fmt: skip


class Settings:
    """A configuration as transformers gives it."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self._settings = settings

    def to_dict(self) -> dict[str, Any]:
        return self._settings


def print_of(folder: Path, config: Any = None, **changes: Any) -> bytes:
    facts: dict[str, Any] = {"layout": LAYOUT, "dtype": "float32", **changes}
    return fingerprint(folder, Settings({}) if config is None else config, **facts)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "model"
    for name in WEIGHTS:
        (made / name).parent.mkdir(parents=True, exist_ok=True)
        (made / name).write_bytes(name.encode())
    (made / "config.json").write_text("{}")
    return made


@pytest.mark.parametrize("name", WEIGHTS)
def test_every_file_of_weights_and_tokenizer_counts(folder: Path, name: str) -> None:
    before = print_of(folder)
    data = bytearray((folder / name).read_bytes())
    data[-1] ^= 1
    (folder / name).write_bytes(data)
    changed = print_of(folder)
    (folder / name).unlink()
    assert len({before, changed, print_of(folder)}) == 3


def test_a_name_counts_and_bytes_belong_to_one_file(folder: Path) -> None:
    prints = {print_of(folder)}
    (folder / "weights.pt").rename(folder / "weights2.pt")
    prints.add(print_of(folder))
    (folder / "a").write_bytes(b"xy")
    (folder / "b").write_bytes(b"z")
    prints.add(print_of(folder))
    (folder / "a").write_bytes(b"x")
    (folder / "b").write_bytes(b"yz")
    prints.add(print_of(folder))
    assert len(prints) == 4


def test_copies_and_links_of_a_folder_are_one_model(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "copy", copy_function=shutil.copy)
    linked = tmp_path / "linked"
    for name in [*WEIGHTS, "config.json"]:
        (linked / name).parent.mkdir(parents=True, exist_ok=True)
        (linked / name).symlink_to(folder / name)
    shutil.rmtree(linked / "shards")
    (linked / "shards").symlink_to(folder / "shards")
    assert print_of(folder) == print_of(tmp_path / "copy") == print_of(linked)


def test_links_in_a_circle_and_what_is_no_file_end(folder: Path) -> None:
    before = print_of(folder)
    (folder / "back").symlink_to(folder)
    (folder / "nowhere").symlink_to(folder / "none")
    os.mkfifo(folder / "pipe")
    assert print_of(folder) == before


def test_cosmetic_files_do_not_count(folder: Path) -> None:
    before = print_of(folder)
    for pattern in COSMETIC_FILES:
        (folder / pattern.replace("*", "x")).write_bytes(b"text")
    for pattern in COSMETIC_FOLDERS:
        below = folder / pattern.replace("*", "1")
        below.mkdir()
        (below / "model.safetensors").write_bytes(b"x")
    assert print_of(folder) == before


def test_dtype_and_shape_count(folder: Path) -> None:
    layouts = [Layout(3, 1, 1, 8, "float32"), Layout(2, 2, 1, 8, "float32")]
    layouts.append(Layout(2, 1, 1, 16, "float32"))
    prints = {print_of(folder, layout=layout) for layout in (LAYOUT, *layouts)}
    prints.add(print_of(folder, dtype="bfloat16"))
    assert len(prints) == 5


def _changed(value: Any) -> Any:
    """Another value of the same kind, as small a change as there is."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    if isinstance(value, str):
        return value + "x"
    if isinstance(value, list):
        return [*value[:-1], _changed(value[-1])] if value else ["x"]
    if isinstance(value, dict):
        return {**value, "one_more": 1}
    return 1


CONFIGS: dict[str, Callable[[], Any]] = {
    "llama": LlamaConfig,
    "gemma3": lambda: Gemma3TextConfig(num_hidden_layers=2),
    "qwen3": Qwen3Config,
}


@pytest.mark.parametrize("family", CONFIGS)
def test_every_setting_that_is_not_cosmetic_counts(tmp_path: Path, family: str) -> None:
    config = CONFIGS[family]().to_dict()
    before = print_of(tmp_path, Settings(config))
    for key, value in config.items():
        after = print_of(tmp_path, Settings({**config, key: _changed(value)}))
        assert (after == before) == (key in COSMETIC_KEYS), key
    assert {"rms_norm_eps", "rope_parameters"} <= set(config)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@settings(max_examples=30, deadline=None)
@given(st.dictionaries(st.text(), JSON), st.text(), JSON, st.lists(st.text(min_size=1)))
def test_any_setting_at_any_depth_counts(
    config: dict[str, Any], key: str, value: Any, above: list[str]
) -> None:
    none = Path("/nonexistent")
    changed: Any = {key: value}
    for name in above:
        changed = {name: changed}
    one, two = config, {**config, **changed}
    same = json.dumps(one, sort_keys=True) == json.dumps(two, sort_keys=True)
    if COSMETIC_KEYS.isdisjoint({key, *above, *config}):
        assert (print_of(none, Settings(one)) == print_of(none, Settings(two))) == same


def test_where_it_was_loaded_from_does_not_count(tmp_path: Path) -> None:
    for name in ("one", "two"):
        LlamaConfig(rms_norm_eps=1e-5).save_pretrained(tmp_path / name)
    one, two = (AutoConfig.from_pretrained(tmp_path / name) for name in ("one", "two"))
    two.transformers_version = "0.1"
    assert print_of(tmp_path / "one", one) == print_of(tmp_path / "two", two)
    nested = [Settings({"text_config": {"_name_or_path": name}}) for name in ("one", "two")]
    assert print_of(tmp_path, nested[0]) == print_of(tmp_path, nested[1])


def test_the_digest_of_all_files_has_the_configuration_in_it(folder: Path) -> None:
    before, without = files_digest(folder), files_digest(folder, "config.json")
    (folder / "config.json").write_text('{"a": 1}')
    assert files_digest(folder) != before and files_digest(folder, "config.json") == without


def _as_bin(folder: Path) -> Path:
    """The same model in the format of before safetensors."""
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    return folder


def test_models_are_told_apart_as_they_are_loaded(tmp_path: Path) -> None:
    tiny = save_tiny("llama", tmp_path / "tiny")
    binary = _as_bin(Path(shutil.copytree(tiny.source, tmp_path / "binary")))
    other = Path(shutil.copytree(binary, tmp_path / "other"))
    weights = torch.load(other / "pytorch_model.bin")
    next(iter(weights.values())).view(-1)[0] += 1
    torch.save(weights, other / "pytorch_model.bin")
    epsilon = Path(shutil.copytree(binary, tmp_path / "epsilon"))
    config = json.loads((epsilon / "config.json").read_text())
    (epsilon / "config.json").write_text(json.dumps(config | {"rms_norm_eps": 0.5}))
    copy = shutil.copytree(binary, tmp_path / "copy")
    folders = (tiny.source, binary, other, epsilon, copy)
    prints = [load_decoder(replace(tiny, source=str(each))).fingerprint for each in folders]
    assert len(set(prints)) == 4 and prints[1] == prints[4]
