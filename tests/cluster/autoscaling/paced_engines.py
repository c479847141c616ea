"""The whole application with its model, its engines slowed down to what a question says that they
take: what the engine computes sooner is slept away on the engine's thread, which a GPU would keep
busy so long. Shared cores then bound neither stage.
"""

import time
from collections.abc import Iterator
from collections.abc import Sequence as Seq
from contextlib import contextmanager
from typing import Any

from ray.serve import Application

from actors.corpus_writer import CorpusService
from actors.engine.asking import Ask
from actors.engine.generate import Sequence
from actors.engine.start import Meanwhile
from actors.errors import ActorError
from actors.generator import Generator
from actors.messages import GenerateRequest, RerankResult
from actors.reranker import Reranker
from actors.retrieval.readers import parse_upload
from actors.retriever import Retriever
from cluster.app import Parts, assemble
from cluster.config import HyperRagConfig
from tests.cluster.autoscaling.pace import Holding, rank_s, write_s

APP = "tests.cluster.autoscaling.paced_engines:build"
_LOOK_S = 0.02


class PacedReranker(Reranker):
    def __init__(self, *settings: Any) -> None:
        Holding("rerank", settings[-1])
        super().__init__(*settings)
        score = self._engine.score_batch

        def score_batch(
            tenant: str, asks: Seq[Ask]
        ) -> Iterator[tuple[int, RerankResult | ActorError]]:
            with _taking(sum(rank_s(ask.question, len(ask.texts)) for ask in asks)):
                outcomes = list(score(tenant, asks))
            yield from outcomes

        self._engine.score_batch = score_batch  # type: ignore[method-assign]  # it is what is paced


class PacedGenerator(Generator):
    """The first token comes when the whole answer's time has passed; those of others in between."""

    def __init__(self, *settings: Any) -> None:
        Holding("generate", settings[-1])
        super().__init__(*settings)
        begin, chunks = self._engine.start, self._engine.chunks

        def start(request: GenerateRequest, deadline: float) -> Sequence:
            with _taking(write_s(request.messages[-1].content), chunks.step):
                return begin(request, deadline)

        self._engine.start = start  # type: ignore[method-assign]  # see above


def build(args: dict[str, Any]) -> Application:
    config = HyperRagConfig.parse(args)
    return assemble(
        config, Parts(Retriever, CorpusService, PacedReranker, PacedGenerator, parse_upload)
    )


@contextmanager
def _taking(seconds: float, meanwhile: Meanwhile = lambda: False) -> Iterator[None]:
    """At least so long."""
    end = time.monotonic() + seconds
    yield
    while (left := end - time.monotonic()) > 0:
        if not meanwhile():
            time.sleep(min(left, _LOOK_S))
