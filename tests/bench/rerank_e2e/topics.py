"""A corpus of topics: passages of an exact number of tokens, and questions that fall on topics by
Zipf's law, so that the passages of the popular ones are asked for again and again."""

import random
from collections.abc import Sequence
from typing import Any

from actors.engine.config import ModelConfig
from actors.engine.weights import prepare
from actors.messages import Document

WORDS_OF_A_TOPIC = 60
EXPONENT = 1.0
QUESTION_TOKENS = 24


class Topics:
    """Every topic has words of its own, and as many passages as a question has candidates."""

    def __init__(
        self, tokenizer: Any, num: int, passages: int, passage_tokens: int, seed: int
    ) -> None:
        rng = random.Random(seed)
        words = single_token_words(tokenizer)
        rng.shuffle(words)
        self._words = [words[i * WORDS_OF_A_TOPIC : (i + 1) * WORDS_OF_A_TOPIC] for i in range(num)]
        self.documents = [
            Document(f"{topic}-{i}", text_of(rng, own, passage_tokens))
            for topic, own in enumerate(self._words)
            for i in range(passages)
        ]

    def questions(self, num: int, seed: int, rng: random.Random) -> list[str]:
        """Their topics follow from `seed`, and repeat; their words come from `rng`, and do not."""
        weights = zipf(len(self._words), EXPONENT)
        topics = random.Random(seed).choices(range(len(self._words)), weights, k=num)
        return [text_of(rng, self._words[topic], QUESTION_TOKENS) for topic in topics]


def zipf(num: int, exponent: float) -> list[float]:
    """Probabilities of ranks 1 to `num`, proportional to rank ** -exponent."""
    weights = [rank**-exponent for rank in range(1, num + 1)]
    return [weight / sum(weights) for weight in weights]


def text_of(rng: random.Random, words: Sequence[str], num_tokens: int) -> str:
    return " ".join(rng.choice(words) for _ in range(num_tokens))


def single_token_words(tokenizer: Any) -> list[str]:
    """Words of one token with and without a space before them, so that a text of n words has n."""
    pieces = tokenizer.convert_ids_to_tokens(list(range(2000, 12000)))
    words = [p[1:] for p in pieces if p.startswith("\u0120") and p[1:].isascii()]
    words = [word for word in dict.fromkeys(words) if word.isalpha() and len(word) > 2]
    alone = tokenizer(words, add_special_tokens=False)["input_ids"]
    return [word for word, ids in zip(words, alone, strict=True) if len(ids) == 1]


def load_tokenizer(model: ModelConfig) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(prepare(model.source, model.cache_dir))
