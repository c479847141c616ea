"""What one request does to the others of a replica.

200 requests, of which every tenth is poisoned (numbers, bytes, lengths, cancellations), half over
the default model, half over a tiny one whose tokenizer falls back to bytes: an innocent request has
failed when it gets no answer, or another one than it gets alone. Then the time between two tokens
of a running stream while a prompt of 4,096 tokens is admitted, relative to a quiet one: with the
default `generator.prefill_chunk_tokens`, with twice as many, and without chunks, the baseline. And
what chunks cost: the time to the first token of a prompt of 1,500 tokens beside a stream and alone,
relative to the same without chunks.
"""

from dataclasses import asdict

from actors.engine.config import GeneratorConfig, ModelConfig
from tests.bench.harness import Options, Result
from tests.bench.isolation import intertoken, poisoned
from tests.bench.isolation.poisons import ALL


def run(options: Options) -> Result:
    figures, rows = poisoned.measure(options)
    of_tokens, rows_of_tokens = intertoken.measure(options)
    config = {
        "model": asdict(ModelConfig()),
        "poisons": [poison.name for poison in ALL],
        "prefill_chunk_tokens": GeneratorConfig().prefill_chunk_tokens,
        "prompt_tokens": intertoken.PROMPT_TOKENS,
        "usual_prompt_tokens": intertoken.USUAL_TOKENS,
        "quiet_tokens": intertoken.QUIET_TOKENS,
        "seed": options.seed,
        "quick": options.quick,
    }
    return Result(config, figures | of_tokens, rows + rows_of_tokens)
