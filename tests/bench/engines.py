"""Real engines over a real one-node store, as the replicas have them, without a cluster."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from actors.engine.config import (
    EngineConfig,
    GeneratorConfig,
    ModelConfig,
    PromptConfig,
    RerankerConfig,
)
from actors.engine.generate import GenerateEngine
from actors.engine.prompt import Prompt
from actors.engine.rerank import RerankEngine
from actors.engine.runtime import Runtime, load_runtime
from kvstore.config import GIB, StoreConfig
from kvstore.local import LocalStoreClient
from kvstore.store import KVStore


@dataclass(slots=True)
class Bench:
    """One model, one store; engines with reuse on and off share both."""

    runtime: Runtime
    store: KVStore
    store_dir: str
    """Folder of the store's arena, which its clients share."""
    ssd_dir: Path
    """Folder of the store's segment files."""
    client: LocalStoreClient

    @property
    def tokenizer(self) -> Any:
        return self.runtime.decoder.tokenizer

    def reranker(
        self, config: RerankerConfig | None = None, prompt: Prompt | None = None
    ) -> RerankEngine:
        runtime = replace(self.runtime, prompt=prompt or self.runtime.prompt)
        return RerankEngine(runtime, config or RerankerConfig(), self.client)

    def generator(self, config: GeneratorConfig | None = None) -> GenerateEngine:
        return GenerateEngine(self.runtime, config or GeneratorConfig(), self.client)


@contextmanager
def bench(model: ModelConfig, store: StoreConfig | None = None) -> Iterator[Bench]:
    """Everything in a temporary folder; the model's converted weights stay in the user's cache."""
    with tempfile.TemporaryDirectory(prefix="hyperrag-bench-") as folder:
        base = store or StoreConfig(dram_bytes=4 * GIB)
        ssd_dir = Path(folder) / "ssd"
        kvstore = KVStore(replace(base, ssd_dir=str(ssd_dir)), node="bench")
        client = LocalStoreClient(kvstore, base.dram_dir)
        try:
            runtime = load_runtime(model, PromptConfig(), EngineConfig(), folder)
            yield Bench(runtime, kvstore, base.dram_dir, ssd_dir, client)
        finally:
            client.close()
            kvstore.close()
