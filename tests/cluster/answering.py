"""An engine on one node that answers with a tiny model, the same on every node."""

import tempfile
from pathlib import Path

from actors.engine.config import FusionConfig, GeneratorConfig
from actors.engine.generate import GenerateEngine
from actors.messages import CacheReport
from kvstore.config import StoreConfig
from tests.actors.engine.generating import started
from tests.actors.engine.speaking import runtime_of, speaking
from tests.cluster.nodes import Engine


class Answering(Engine):
    def __init__(self, config: StoreConfig) -> None:
        super().__init__(config)
        decoder, _ = speaking("llama")
        self._runtime = runtime_of(decoder, Path(tempfile.gettempdir()))

    def answer(self, mode: str, *order: int) -> CacheReport:
        """Of a prompt over these passages."""
        config = GeneratorConfig(mode=mode, fusion=FusionConfig(ratio=0.1))  # type: ignore[arg-type]
        engine = GenerateEngine(self._runtime, config, self._client)
        try:
            return started(engine, *order).cache
        finally:
            engine.close()
            self._client.flush(10.0)
