"""The other side of `rerank_vs_vllm`: a loop around vLLM, run by the Python that has it.

One JSON object a line. First come the arguments of `vllm.LLM`, answered by versions; then requests
`{"prompts": [[id, ...], ...], "scored": n}`, each answered by `{"seconds", "scores", "cached"}`.
With n = 0 a prompt's score is the log-probability of its most likely next token; otherwise it is
the mean log-probability of its last n tokens. Imports nothing of this repository.
"""

import json
import os
import sys
import time
from collections.abc import Sequence
from typing import Any

Prompts = Sequence[Sequence[int]]


def main() -> None:
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # vLLM writes to standard output too
    import torch
    import vllm

    llm = vllm.LLM(**json.loads(sys.stdin.readline()))
    reply: dict[str, Any] = {"vllm": vllm.__version__, "torch": torch.__version__}
    while True:
        print(json.dumps(reply), file=replies, flush=True)
        line = sys.stdin.readline()
        if not line:
            return
        request = json.loads(line)
        reply = score(llm, request["prompts"], request["scored"])


def score(llm: Any, prompts: Prompts, scored: int) -> dict[str, Any]:
    """Scores of all prompts in one batch, and how many tokens of each were cached."""
    from vllm import SamplingParams

    params = SamplingParams(
        max_tokens=1,
        temperature=0.0,
        logprobs=1,
        prompt_logprobs=0 if scored else None,
        skip_reading_prefix_cache=False,
        detokenize=False,
    )
    start = time.perf_counter()
    outputs = llm.generate([{"prompt_token_ids": ids} for ids in prompts], params, use_tqdm=False)
    scores = [_likelihood(o, scored) if scored else _next_token(o) for o in outputs]
    seconds = time.perf_counter() - start
    cached = [output.num_cached_tokens for output in outputs]
    room = min(len(ids) for ids in prompts) - scored
    assert max(cached) < room, "of a cached token vLLM has no log-probability"
    return {"seconds": seconds, "scores": scores, "cached": cached}


def _next_token(output: Any) -> float:
    return max(float(found.logprob) for found in output.outputs[0].logprobs[0].values())


def _likelihood(output: Any, scored: int) -> float:
    ids, positions = output.prompt_token_ids[-scored:], output.prompt_logprobs[-scored:]
    return sum(float(at[i].logprob) for i, at in zip(ids, positions, strict=True)) / scored


if __name__ == "__main__":
    main()
