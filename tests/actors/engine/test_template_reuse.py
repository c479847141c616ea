"""Variables of the chat template change what is reused exactly where they change the prompt."""

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from actors.engine.config import GeneratorConfig
from actors.engine.generate import GenerateEngine
from kvstore.local import LocalStoreClient
from tests.actors.engine.generating import decoded, request
from tests.actors.engine.speaking import runtime_of, speaking
from tests.actors.engine.test_chat_template import MODED, THINKING, prompt_of


def engines(template: str, client: LocalStoreClient, folder: Path) -> list[GenerateEngine]:
    """One that reuses prefixes, one that computes in full."""
    runtime = replace(runtime_of(speaking("llama")[0], folder), prompt=prompt_of(template))
    reusing = GenerateEngine(runtime, GeneratorConfig(), client)
    return [reusing, GenerateEngine(runtime, GeneratorConfig(mode="full"), None)]


def answered(engine: GenerateEngine, **options: Any) -> tuple[list[list[int]], int]:
    """Tokens, and how many segments were found."""
    asked = replace(request(0, 1), chat_template_kwargs=tuple(sorted(options.items())))
    sequence = engine.start(asked, time.monotonic() + 60)
    return decoded(engine, sequence), sequence.cache.dram_hits


def test_another_prefix_finds_nothing_of_the_first_and_its_own_again(
    client: LocalStoreClient, tmp_path: Path
) -> None:
    reusing, full = engines(MODED, client, tmp_path)
    asked: list[dict[str, Any]] = [{}, {"mode": "deep"}, {"mode": "plain"}, {"mode": "deep"}]
    found = []
    for options in asked:
        tokens, hits = answered(reusing, **options)
        assert tokens == answered(full, **options)[0]
        found.append(hits)
    assert found == [0, 0, 3, 3]


def test_what_changes_the_end_of_the_prompt_alone_shares_all_of_it(
    client: LocalStoreClient, tmp_path: Path
) -> None:
    reusing, full = engines(THINKING, client, tmp_path)
    plain, _ = answered(reusing)
    thinking, hits = answered(reusing, enable_thinking=True)
    assert hits == 3
    assert thinking == answered(full, enable_thinking=True)[0] != plain
