"""From files to a model folder: `hyperrag train-reranker` without its command line.

OUT/*.safetensors, config.json, tokenizer.json ...   the model, as `models.reranker.source`
OUT/training.json  training.png                      settings, losses, held-out measurements
OUT/training.checkpoint                              until the run is finished
"""

import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from actors.engine.config import ModelConfig, PromptConfig
from actors.engine.fingerprint import files_digest
from actors.engine.weights import prepare
from actors.errors import RequestError
from actors.retrieval.embedding import Embeds
from actors.training import checkpoint
from actors.training.adapter import save_merged
from actors.training.config import TrainingConfig
from actors.training.data import Examples
from actors.training.history import History
from actors.training.plot import plot, require_matplotlib
from actors.training.run import Run, Shown
from actors.training.scoring import Scorer


@dataclass(frozen=True, slots=True)
class Trained:
    """What `training.json` holds."""

    settings: dict[str, Any]
    """A run is continued, and counts as finished, under the same ones only."""
    history: History
    anew: bool
    """False when the folder held the finished run before."""


def train(
    model: ModelConfig,
    prompt: PromptConfig,
    embedder: Embeds,
    examples: Examples,
    config: TrainingConfig,
    out: Path,
    shown: Shown,
    stopping: Callable[[], bool] = lambda: False,
) -> Trained:
    """Train, or continue, or find it done, in folder `out`.

    Raises RequestError for settings that are not those of the run in `out`, Stopped when
    `stopping()` says so, UnavailableError for what is not installed.
    """
    require_matplotlib()
    cut = min(config.max_passage_tokens, prompt.max_passage_tokens)
    prompt = replace(prompt, max_passage_tokens=cut)
    settings = _settings(model, prompt, embedder, examples, config)
    report, state = out / "training.json", out / "training.checkpoint"
    if report.is_file():
        found = json.loads(report.read_text())
        checkpoint.require_same(settings, found["settings"], out)
        return Trained(settings, History.parse(found["history"]), anew=False)
    if (out / "config.json").exists():
        raise RequestError("out", f"{out} holds a model already; give another folder")
    if state.is_file():
        checkpoint.require_same(settings, checkpoint.read_state(state)["settings"], out)
    out.mkdir(parents=True, exist_ok=True)
    scorer = Scorer(model, prompt, config.lora_rank, config.seed)
    run = Run(scorer, embedder, examples, config)
    if state.is_file():
        run.restore(state)
    run.train(state, settings, shown, stopping)
    return _finished(scorer, run, config, settings, out)


def _finished(
    scorer: Scorer, run: Run, config: TrainingConfig, settings: dict[str, Any], out: Path
) -> Trained:
    """The report comes last: with it the run is finished."""
    save_merged(scorer.folder, scorer.weights, config.lora_rank, out)
    plot(run.history, out / "training.png")
    document = {"settings": settings, "history": asdict(run.history)}
    temporary = out / ".training.json.tmp"
    temporary.write_text(json.dumps(document, indent=1) + "\n")
    os.replace(temporary, out / "training.json")
    (out / "training.checkpoint").unlink()
    return Trained(settings, run.history, anew=True)


def _settings(
    model: ModelConfig,
    prompt: PromptConfig,
    embedder: Embeds,
    examples: Examples,
    config: TrainingConfig,
) -> dict[str, Any]:
    """All that decides the result. How often a checkpoint is written does not."""
    own = asdict(config)
    del own["checkpoint_steps"]
    return own | {
        "model": model.source,
        "dtype": model.dtype,
        "device": model.device,
        "weights": files_digest(prepare(model.source, model.cache_dir)).hex()[:32],
        "examples": examples.digest,
        "embedder": embedder.fingerprint,
        "prompt": asdict(prompt),
    }
