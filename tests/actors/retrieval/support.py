"""A small corpus world: a word-level tokenizer and a hashed bag-of-words embedder, both real."""

import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
from tokenizers import Tokenizer, models, pre_tokenizers

from actors.messages import Document
from actors.passages import PassageSplitter
from actors.retrieval.config import RetrievalConfig
from actors.retrieval.corpus import CorpusWriter
from actors.retrieval.embedding import Vectors
from actors.retrieval.follower import CorpusReader
from actors.retrieval.storage import LocalStorage, Storage


@lru_cache(10_000)
def direction(word: str, dim: int, seed: int) -> Vectors:
    generator = np.random.default_rng(crc32(word.encode(errors="replace")) ^ seed)
    return generator.standard_normal(dim, np.float32)


class BagOfWords:
    """Each word adds one fixed pseudo-random direction; equal words, close vectors."""

    def __init__(self, dim: int = 32, seed: int = 0, longest: int = 1000) -> None:
        self.dim, self.seed, self.longest = dim, seed, longest
        self.fingerprint = f"bag-of-words-{dim}-{seed}"

    def fits(self, text: str) -> bool:
        return len(text) <= self.longest

    def embed(self, texts: Sequence[str]) -> Vectors:
        vectors = np.zeros((len(texts), self.dim), np.float32)
        for row, text in zip(vectors, texts, strict=True):
            for word in re.findall(r"\w+", text.lower()) or ["\0"]:
                row += direction(word, self.dim, self.seed)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors


def byte_tokenizer() -> Tokenizer:
    """Byte-level BPE without merges: one token a byte, several for many characters."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {symbol: i for i, symbol in enumerate(alphabet)}
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return tokenizer


def make_config(root: Path, **changes: Any) -> RetrievalConfig:
    settings: dict[str, Any] = {"passage_tokens": 40, "follow_interval_s": 0.01, **changes}
    return RetrievalConfig(corpus_uri=str(root), local_cache_dir=str(root / "cache"), **settings)


def make_writer(
    root: Path, storage: Storage | None = None, embedder: BagOfWords | None = None, **changes: Any
) -> CorpusWriter:
    config = make_config(root, **changes)
    splitter = PassageSplitter(byte_tokenizer(), config.passage_tokens)
    return CorpusWriter(config, storage or LocalStorage(root), embedder or BagOfWords(), splitter)


def make_reader(
    root: Path, storage: Storage | None = None, embedder: BagOfWords | None = None
) -> CorpusReader:
    return CorpusReader(storage or LocalStorage(root), (embedder or BagOfWords()).fingerprint, 0.01)


def found_ids(reader: CorpusReader, query: str, top_n: int = 5, collection: str = "c") -> list[str]:
    matches = reader.search("t", collection, BagOfWords().embed([query]), top_n)
    return [found.passage.document_id for found in matches.found[0]]


def animals(*names: str, suffix: str = "") -> list[Document]:
    return [Document(name, f"The {name} is an animal.{suffix}", {"name": name}) for name in names]
