import subprocess
import sys


def test_the_engine_loads_no_heavy_package() -> None:
    code = (
        "import sys, kvstore, kvstore.store, kvstore.local;"
        "print([m for m in ('ray', 'torch', 'transformers', 'faiss', 'vllm', 'pyarrow')"
        " if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"
