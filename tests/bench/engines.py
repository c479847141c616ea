"""Real engines over a real one-node store, as the replicas have them, without a cluster."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from actors.engine.compute import ComputeSlot, use_threads
from actors.engine.config import (
    EngineConfig,
    GeneratorConfig,
    ModelConfig,
    PromptConfig,
    RerankerConfig,
)
from actors.engine.generate import GenerateEngine
from actors.engine.models import Decoder, load_decoder
from actors.engine.prompt import Prompt
from actors.engine.rerank import RerankEngine
from kvstore.config import GIB, StoreConfig
from kvstore.local import LocalStoreClient
from kvstore.store import KVStore


@dataclass(slots=True)
class Bench:
    """One model, one store; engines with reuse on and off share both."""

    decoder: Decoder
    store: KVStore
    client: LocalStoreClient
    slot: ComputeSlot
    prompt: Prompt

    def reranker(
        self, config: RerankerConfig | None = None, prompt: Prompt | None = None
    ) -> RerankEngine:
        return RerankEngine(
            self.decoder,
            prompt or self.prompt,
            config or RerankerConfig(),
            self.client,
            self.slot,
        )

    def generator(self, config: GeneratorConfig | None = None) -> GenerateEngine:
        return GenerateEngine(
            self.decoder,
            self.prompt,
            config or GeneratorConfig(),
            self.client,
            self.slot,
        )


@contextmanager
def bench(model: ModelConfig, store: StoreConfig | None = None) -> Iterator[Bench]:
    """Everything in a temporary folder; the model's converted weights stay in the user's cache."""
    use_threads(0)
    with tempfile.TemporaryDirectory(prefix="hyperrag-bench-") as folder:
        base = store or StoreConfig(dram_bytes=4 * GIB)
        kvstore = KVStore(replace(base, ssd_dir=str(Path(folder) / "ssd")), node="bench")
        client = LocalStoreClient(kvstore, base.dram_dir)
        try:
            slot = ComputeSlot(EngineConfig(), folder)
            decoder = load_decoder(model)
            prompt = Prompt(decoder.tokenizer, PromptConfig())
            yield Bench(decoder, kvstore, client, slot, prompt)
        finally:
            client.close()
            kvstore.close()
