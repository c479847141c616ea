import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def smol_path() -> str:
    """A local copy of the default model: the tokenizer is what passages are counted with."""
    path = os.environ.get("HYPERRAG_TEST_MODEL", "/tmp/smol16")
    if not Path(path).is_dir():
        pytest.skip(f"no converted model at {path}")
    return path
