from pathlib import Path

import pytest

from actors.engine.config import ModelConfig
from actors.retrieval.config import RetrievalConfig
from actors.retrieval.embedding import Embedder
from tests.actors.training.tiny import save_tiny


@pytest.fixture
def tiny(tmp_path: Path) -> ModelConfig:
    return save_tiny("llama", tmp_path / "tiny")


@pytest.fixture(scope="session")
def embedder() -> Embedder:
    return Embedder(RetrievalConfig().embedder, batch=32)
