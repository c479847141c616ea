import json
import os
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from actors.engine.config import ModelConfig
from actors.engine.models import load_decoder
from actors.errors import RequestError, UnavailableError
from actors.retrieval.embedding import Embedder
from actors.training.config import TrainingConfig
from actors.training.history import History
from actors.training.negatives import hard_negatives
from actors.training.run import Run, Stopped
from actors.training.scoring import Scorer
from actors.training.train import Trained, train
from tests.actors.training.tiny import (
    PASSAGES,
    PROMPT,
    QUESTIONS,
    examples,
    save_tiny,
    served_scores,
)

CONFIG = TrainingConfig(
    steps=6, learning_rate=1e-2, lora_rank=4, negatives=2, held_out_share=0.2, checkpoint_steps=2
)


def _train(
    model: ModelConfig,
    embedder: Embedder,
    out: Path,
    config: TrainingConfig = CONFIG,
    stop_after: int = 1000,
) -> Trained:
    done: list[int] = []

    def shown(step: int, steps: int, history: History) -> None:
        done.append(step)

    return train(
        model, PROMPT, embedder, examples(), config, out, shown, lambda: done[-1] + 1 >= stop_after
    )


def test_the_loss_is_minus_the_log_softmax_of_served_scores(
    tiny: ModelConfig, embedder: Embedder, tmp_path: Path
) -> None:
    run = Run(Scorer(tiny, PROMPT, rank=4, seed=0), embedder, examples(), CONFIG)
    batch = run.batches.at(0)
    expected = []
    for i, target in zip(batch.questions, batch.targets, strict=True):
        scores = torch.tensor(served_scores(tiny, QUESTIONS[i], tmp_path))[batch.passages]
        expected.append(float(-(scores / CONFIG.temperature).log_softmax(0)[target]))
    assert run.loss(batch).item() == pytest.approx(sum(expected) / len(expected), abs=1e-3)


def test_training_finds_every_passage_of_a_toy_corpus(
    tiny: ModelConfig, embedder: Embedder, tmp_path: Path
) -> None:
    config = replace(CONFIG, steps=60, held_out_share=0.0, negatives=7, batch_questions=8)
    _train(tiny, embedder, tmp_path / "out", config)
    trained = replace(tiny, source=str(tmp_path / "out"))

    def mrr(model: ModelConfig) -> float:
        total = 0.0
        for question in examples().questions:
            scores = served_scores(model, question.text, tmp_path)
            total += 1 / (1 + sum(s > scores[question.positive] for s in scores))
        return total / len(QUESTIONS)

    assert mrr(tiny) < 0.7
    assert mrr(trained) == 1.0


def test_the_merged_model_scores_as_the_adapted_one_and_has_its_own_fingerprint(
    tiny: ModelConfig, embedder: Embedder, tmp_path: Path
) -> None:
    scorer = Scorer(tiny, PROMPT, CONFIG.lora_rank, CONFIG.seed)
    run = Run(scorer, embedder, examples(), CONFIG)
    run.train(tmp_path / "checkpoint", {}, lambda *_: None, lambda: False)
    for name in (".model", ".model-0a_9zzzz"):
        (tmp_path / "out" / name).mkdir(parents=True)
    _train(tiny, embedder, tmp_path / "out")
    left = [path.name for path in (tmp_path / "out").glob(".model*")]
    assert left == [".model"], "what a killed run left is gone, what is no run's is not"
    merged = replace(tiny, source=str(tmp_path / "out"))
    with torch.no_grad():
        adapted = scorer.scores(QUESTIONS[:1], PASSAGES)[0]
    served = torch.tensor(served_scores(merged, QUESTIONS[0], tmp_path))
    torch.testing.assert_close(served, adapted, atol=1e-3, rtol=0)
    before = torch.tensor(served_scores(tiny, QUESTIONS[0], tmp_path))
    assert (served - before).abs().max() > 0.1
    assert load_decoder(merged).fingerprint != load_decoder(tiny).fingerprint
    assert load_decoder(replace(merged, dtype="bfloat16")).dtype == "bfloat16"


def test_a_run_that_was_stopped_goes_on_as_if_it_had_not_been(
    tiny: ModelConfig, embedder: Embedder, tmp_path: Path
) -> None:
    whole = _train(tiny, embedder, tmp_path / "whole")
    for stop_after in (1, 3, 5):  # with and without a regular checkpoint at that step
        with pytest.raises(Stopped, match=f"after step {stop_after} of 6"):
            _train(tiny, embedder, tmp_path / "parts", stop_after=stop_after)
        assert not (tmp_path / "parts" / "config.json").exists()
    parts = _train(tiny, embedder, tmp_path / "parts")
    assert parts.history.losses == pytest.approx(whole.history.losses, abs=1e-6)
    assert [asdict(m) for m in parts.history.held_out] == [
        pytest.approx(asdict(m), abs=1e-6) for m in whole.history.held_out
    ]
    assert len(whole.history.held_out) > 1


def test_a_finished_run_is_told_from_a_new_one(
    tiny: ModelConfig, embedder: Embedder, tmp_path: Path
) -> None:
    first = _train(tiny, embedder, tmp_path / "out")
    written = (tmp_path / "out" / "model.safetensors").stat().st_mtime_ns
    again = _train(tiny, embedder, tmp_path / "out")
    assert (first.anew, again.anew) == (True, False)
    assert again.history == first.history
    assert (tmp_path / "out" / "model.safetensors").stat().st_mtime_ns == written
    names = set(os.listdir(tmp_path / "out"))
    assert {"training.json", "training.png", "tokenizer.json", "config.json"} < names
    assert not {name for name in names if "checkpoint" in name or name.startswith(".")}
    report = json.loads((tmp_path / "out" / "training.json").read_text())
    assert report["settings"]["learning_rate"] == 1e-2
    assert (tmp_path / "out" / "training.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("steps_done", [1, 6])
def test_another_configuration_is_refused_by_name(
    steps_done: int, tiny: ModelConfig, embedder: Embedder, tmp_path: Path
) -> None:
    if steps_done < 6:
        with pytest.raises(Stopped):
            _train(tiny, embedder, tmp_path / "out", stop_after=steps_done)
    else:
        _train(tiny, embedder, tmp_path / "out")
    others: dict[str, Any] = {"lora_rank": 8, "learning_rate": 0.1, "max_passage_tokens": 50}
    for field, value in others.items():
        other = replace(CONFIG, **{field: value})
        with pytest.raises(RequestError, match=f"^{field}: is {value}, but .*out holds a run with"):
            _train(tiny, embedder, tmp_path / "out", other)
    elsewhere = save_tiny("llama", tmp_path / "elsewhere", initializer_range=0.1)
    with pytest.raises(RequestError, match="^(model|weights): "):
        _train(elsewhere, embedder, tmp_path / "out")


def test_a_folder_with_a_model_is_not_written_to(tiny: ModelConfig, embedder: Embedder) -> None:
    with pytest.raises(RequestError, match="out: .* holds a model already"):
        _train(tiny, embedder, Path(tiny.source))


def test_a_damaged_checkpoint_is_named(
    tiny: ModelConfig, embedder: Embedder, tmp_path: Path
) -> None:
    (tmp_path / "training.checkpoint").write_bytes(b"no tensors")
    with pytest.raises(UnavailableError, match=r"training\.checkpoint is no checkpoint; remove it"):
        _train(tiny, embedder, tmp_path)


def test_hard_negatives_are_the_nearest_other_passages(embedder: Embedder) -> None:
    made = examples()
    near = hard_negatives(embedder, made.questions, made.passages, 3)
    for question, row in zip(made.questions, near, strict=True):
        assert question.positive not in row and len(set(row)) == 3
    vectors = embedder.embed(made.passages) @ embedder.embed([QUESTIONS[0]])[0]
    order = [int(i) for i in (-vectors).argsort() if i != 0]
    assert near[0] == order[:3]


@pytest.mark.parametrize(
    ("field", "value"),
    [("epochs", 0), ("learning_rate", float("nan")), ("held_out_share", 1.0), ("steps", -1)],
)
def test_a_bad_setting_is_named(field: str, value: Any) -> None:
    with pytest.raises(RequestError, match=f"^{field}: is {value}, must be"):
        replace(CONFIG, **{field: value})


def test_one_question_without_negatives_cannot_be_compared() -> None:
    with pytest.raises(RequestError, match="negatives: is 0 with one question"):
        replace(CONFIG, negatives=0, batch_questions=1)
