"""One service for all tokenizers, on a port of this process: the ingress and the parts behind it
are the real ones, called without Ray; the models are tiny and random.

What a model is given is seen where it is given it, so nothing between HTTP and there counts twice.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast
from unittest.mock import patch

import torch
from starlette.types import ASGIApp, Receive, Scope, Send
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM

from actors.corpus_writer import CorpusService
from actors.engine.config import (
    EngineConfig,
    GeneratorConfig,
    ModelConfig,
    PromptConfig,
    RerankerConfig,
)
from actors.engine.models import Decoder
from actors.engine.packed import Batch
from actors.generator import Generator
from actors.reranker import Reranker
from actors.retrieval.config import RetrievalConfig
from actors.retrieval.readers import parse_upload
from actors.retriever import Retriever
from cluster.config import HyperRagConfig
from cluster.ingress.app import create_app
from cluster.ingress.context import Context
from cluster.ingress.keys import ApiKeys
from cluster.metrics.request import Instruments
from cluster.services import Services
from kvstore.config import StoreConfig
from kvstore.local import LocalStoreClient
from kvstore.store import KVStore
from kvstore.supervised import Supervisor
from tests.cluster.listening import listening
from tests.cluster.near import Near, NearGenerator, NearIngress, NearStore
from tests.integration.control.families import MADE, tokenizer

MAX_TOKENS = 8192
FAMILY = "X-Family"
"""The header that says whose model a request is for."""


class NearStoreClient(LocalStoreClient):
    """In place of the client of a cluster's store."""

    def __init__(self, store: KVStore, folder: Path) -> None:
        super().__init__(store, str(folder))
        self.threads = Supervisor()
        """Of the engine that it is for."""

    def flush(self, timeout_s: float) -> None: ...


class Fed:
    """Tokens that models were given, in order."""

    def __init__(self) -> None:
        self._ids: list[int] = []

    @contextmanager
    def watched(self) -> Iterator[None]:
        forward = Decoder.forward

        def watching(decoder: Decoder, batch: Batch) -> Tensor:
            self._ids += [token for lane in batch.lanes for token in lane.tokens]
            return forward(decoder, batch)

        with patch.object(Decoder, "forward", watching):
            yield

    def take(self) -> list[int]:
        """Those since the last call."""
        taken, self._ids = self._ids, []
        return taken


class ByFamily:
    """An application for each of them."""

    def __init__(self, apps: dict[str, ASGIApp]) -> None:
        self._apps = {name.encode(): app for name, app in apps.items()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        name = dict(scope["headers"])[FAMILY.lower().encode()]
        await self._apps[name](scope, receive, send)


def save_model(family: str, folder: Path) -> Path:
    """A tiny random model with the family's tokenizer and template."""
    named = tokenizer(family)
    torch.manual_seed(3)
    facts = AutoConfig.for_model(
        "llama",
        vocab_size=len(named),
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=MAX_TOKENS,
        bos_token_id=named.bos_token_id,
        eos_token_id=named.eos_token_id,
        pad_token_id=None,
    )
    AutoModelForCausalLM.from_config(facts).save_pretrained(folder)
    named.save_pretrained(folder)
    return folder


def _services(family: str, folder: Path, shared: tuple[Any, Any], store: KVStore) -> Services:
    model = ModelConfig(str(save_model(family, folder / family)), "float32", "cpu")
    prompt = PromptConfig(max_passage_tokens=MAX_TOKENS // 4)
    engine = EngineConfig(torch_threads=1, compute_slot=False)
    near = partial(NearStoreClient, store, folder)
    reranking = RerankerConfig(reuse="off", max_question_tokens=MAX_TOKENS // 4)
    generating = GeneratorConfig(mode="full", max_context_tokens=MAX_TOKENS)
    with patch("actors.reranker.ClusterStoreClient", lambda _: near()):
        reranker = Reranker(model, prompt, engine, reranking, StoreConfig(), str(folder))
    with patch("actors.generator.ClusterStoreClient", lambda _: near()):
        generator = Generator(model, prompt, engine, generating, StoreConfig(), str(folder))
    corpus, retriever = shared
    return Services(
        Near(retriever),
        Near(corpus),
        Near(reranker),
        NearGenerator(cast(Any, generator)),
        NearStore(),
        NearIngress(Instruments("1", 256)),
    )


def _app(services: Services) -> ASGIApp:
    config = HyperRagConfig()
    reranker = replace(config.reranker, max_question_tokens=MAX_TOKENS // 4)
    config = config.model_copy(update={"reranker": reranker})
    instruments = Instruments("1", 256)
    return create_app(Context(config, services, ApiKeys({}), parse_upload, instruments))


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """The service's URL."""
    retrieval = RetrievalConfig(corpus_uri=str(folder / "corpus"), passage_tokens=MAX_TOKENS // 4)
    small = StoreConfig(dram_bytes=2**26, dram_dir=str(folder), ssd_dir=str(folder / "ssd"))
    with ExitStack() as stack:
        store = KVStore(small, node="test")
        stack.callback(store.close)
        corpus = CorpusService(retrieval, ModelConfig(), EngineConfig(torch_threads=1))
        stack.callback(corpus.close)
        shared = corpus, Retriever(retrieval)
        apps = {name: _app(_services(name, folder, shared, store)) for name in MADE}
        yield stack.enter_context(listening(ByFamily(apps)))
