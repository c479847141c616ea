"""What becomes of a model of some type: exact, or refused by name before it serves."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from actors.engine.config import ModelConfig
from actors.engine.fusion.rotation import Rotation
from actors.engine.models import Decoder, load_decoder
from actors.engine.proof import MODEL_ERRORS
from actors.engine.support import refuse_unsupported
from actors.errors import UnsupportedModelError
from kvstore.client import StoreClient
from kvstore.config import StoreConfig
from kvstore.local import LocalStoreClient
from kvstore.store import KVStore
from tests.actors.training.tiny import toy_tokenizer
from tests.bench.model_families.checks import LIMIT, worst_difference
from tests.bench.model_families.tiny import default_facts, tiny_model

Kind = Literal["exact", "refused", "silently_wrong", "crashed", "not_built"]


@dataclass(frozen=True, slots=True)
class Verdict:
    model_type: str
    kind: Kind
    fusion: bool = False
    """Whether `generator.mode` can be `fusion` as well."""
    why: str = ""
    figures: dict[str, float] | None = None


def model_types() -> list[str]:
    """Of which transformers makes a causal language model."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as NAMES

    return sorted(NAMES)


@contextmanager
def store_client() -> Iterator[tuple[StoreClient, Path]]:
    with tempfile.TemporaryDirectory(prefix="hyperrag-families-") as folder:
        config = StoreConfig(
            dram_bytes=64 * 2**20, dram_dir=folder, ssd_dir=f"{folder}/ssd", ssd_bytes=2**28
        )
        store = KVStore(config, node="families")
        client = LocalStoreClient(store, folder)
        try:
            yield client, Path(folder)
        finally:
            client.close()
            store.close()


def verdict_of(
    model_type: str, seed: int = 7, checked: tuple[StoreClient, Path] | None = None
) -> Verdict:
    """By what loading says; with `checked`, a store's client and a folder, also by comparing."""
    try:
        refuse_unsupported(default_facts(model_type))
    except UnsupportedModelError as error:
        return Verdict(model_type, "refused", why=error.reason)
    except MODEL_ERRORS as error:
        return Verdict(model_type, "not_built", why=f"no default configuration: {_first(error)}")
    try:
        stock = tiny_model(model_type, seed)
    except MODEL_ERRORS as error:
        return Verdict(model_type, "not_built", why=_first(error))
    try:
        with tempfile.TemporaryDirectory() as folder:
            stock.save_pretrained(folder)
            toy_tokenizer().save_pretrained(folder)
            decoder = load_decoder(ModelConfig(source=folder, dtype="float32", device="cpu"))
        found = Verdict(model_type, "exact", fusion=_moves(decoder))
    except UnsupportedModelError as error:
        return Verdict(model_type, "refused", why=error.reason)
    except (OSError, *MODEL_ERRORS) as error:
        return Verdict(model_type, "crashed", why=_first(error))
    return found if checked is None else _compared(found, decoder, stock, *checked)


def _compared(
    found: Verdict, decoder: Decoder, stock: Any, client: StoreClient, folder: Path
) -> Verdict:
    try:
        figures = worst_difference(decoder, stock, client, folder)
    except MODEL_ERRORS as error:
        return replace(found, kind="crashed", why=_first(error))
    exact = all(value <= LIMIT for value in figures.values())
    return replace(found, kind="exact" if exact else "silently_wrong", figures=figures)


def _moves(decoder: Decoder) -> bool:
    try:
        Rotation.of(decoder)
    except UnsupportedModelError:
        return False
    return True


def _first(error: Exception) -> str:
    """The first line of what it says."""
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0][:160]}"
