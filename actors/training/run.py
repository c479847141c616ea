"""One training run: steps, checkpoints, measurements, and the merged model at the end.

Listwise: softmax cross-entropy of the right passage's score among all passages of the batch.
"""

import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from actors.retrieval.embedding import Embeds
from actors.training import checkpoint
from actors.training.batches import Batch, Batches
from actors.training.config import TrainingConfig
from actors.training.data import Examples, split
from actors.training.held_out import NEGATIVES, measure
from actors.training.history import History
from actors.training.negatives import hard_negatives
from actors.training.scoring import Scorer

_WARM_UP = 0.1
"""Share of the steps during which the learning rate rises."""
_MAX_NORM = 1.0
"""Gradients are scaled down to it."""


Shown = Callable[[int, int, History], None]
"""Called with the steps done, the steps of the run, and what was measured."""


class Stopped(Exception):
    """The run was asked to stop; what it did is in its checkpoint."""


class Run:
    def __init__(
        self,
        scorer: Scorer,
        embedder: Embeds,
        examples: Examples,
        config: TrainingConfig,
    ) -> None:
        self._scorer, self._examples, self._config = scorer, examples, config
        trained, self._held_out = split(examples, config.held_out_share, config.seed)
        self._near = hard_negatives(
            embedder, examples.questions, examples.passages, max(config.negatives, NEGATIVES)
        )
        self.batches = Batches(
            examples,
            [near[: config.negatives] for near in self._near],
            trained,
            config.batch_questions,
            config.seed,
        )
        self.steps = config.steps or config.epochs * self.batches.per_epoch
        self.history = History()
        self._optimizer = torch.optim.AdamW(
            scorer.weights.values(), lr=config.learning_rate, weight_decay=0.0
        )

    @property
    def step(self) -> int:
        """Steps done."""
        return len(self.history.losses)

    def restore(self, path: Path) -> None:
        """Go on from a checkpoint of the same settings."""
        checkpoint.restore(path, self._scorer.weights, self._optimizer)
        self.history = History.parse(checkpoint.read_state(path)["history"])

    def train(
        self, path: Path, settings: dict[str, Any], shown: Shown, stopping: Callable[[], bool]
    ) -> None:
        """All steps that are left, with a checkpoint at `path` every so often.

        Raises Stopped, behind a checkpoint, when `stopping()` says so after a step.
        """
        start = time.monotonic() - self.history.seconds
        self._measure_if_due()
        shown(self.step, self.steps, self.history)
        while self.step < self.steps:
            self.history.losses.append(self._step(self.batches.at(self.step)))
            self.history.seconds = time.monotonic() - start
            stop = stopping()
            if not stop:
                self._measure_if_due()
            shown(self.step, self.steps, self.history)
            if stop or self.step == self.steps or not self.step % self._config.checkpoint_steps:
                state = {"settings": settings, "history": asdict(self.history)}
                checkpoint.save(path, self._scorer.weights, self._optimizer, state)
            if stop:
                raise Stopped(f"stopped after step {self.step} of {self.steps}")

    def loss(self, batch: Batch) -> Tensor:
        scores = self._scorer.scores(
            [self._examples.questions[i].text for i in batch.questions],
            [self._examples.passages[p] for p in batch.passages],
        )
        targets = torch.tensor(batch.targets, device=scores.device)
        return torch.nn.functional.cross_entropy(scores / self._config.temperature, targets)

    def _step(self, batch: Batch) -> float:
        for group in self._optimizer.param_groups:
            group["lr"] = self._config.learning_rate * _schedule(self.step, self.steps)
        loss = self.loss(batch)
        torch.autograd.backward(loss)
        clip_grad_norm_(self._scorer.weights.values(), _MAX_NORM)
        self._optimizer.step()
        self._optimizer.zero_grad()
        return float(loss.detach())

    def _measure_if_due(self) -> None:
        """Before the first step, after every epoch and the last step; once each."""
        due = self.step == self.steps or not self.step % self.batches.per_epoch
        done = self.history.held_out and self.history.held_out[-1].step == self.step
        if due and not done and self._held_out:
            self.history.held_out.append(
                measure(
                    self._scorer.scores,
                    self._examples,
                    self._near,
                    self._held_out,
                    self._config.temperature,
                    self.step,
                )
            )


def _schedule(step: int, steps: int) -> float:
    """Share of the highest learning rate: linear up, then linear down to zero after the last."""
    rise = max(1, round(_WARM_UP * steps))
    return min((step + 1) / rise, (steps - step) / max(1, steps - rise))
