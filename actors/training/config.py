"""Settings of a training run; a run is continued only under the settings it began with."""

from dataclasses import dataclass

from actors.errors import RequestError

_COUNTS = ("epochs", "lora_rank", "batch_questions", "max_passage_tokens", "checkpoint_steps")


@dataclass(frozen=True, slots=True)
class TrainingConfig:
    epochs: int = 2
    """Passes over the questions that are not held out."""
    steps: int = 0
    """Optimizer steps; above 0 it overrides `epochs`."""
    learning_rate: float = 3e-4
    """Highest one: reached after a tenth of the steps, zero after the last."""
    temperature: float = 0.1
    """Scores are divided by it before the softmax over candidates. Scores are means over a
    question's tokens: with ten tokens, 0.1 is the softmax over log-likelihoods of questions."""
    lora_rank: int = 16
    negatives: int = 3
    """Hard negatives of each question: the nearest passages that are not its own. 0: only those
    that the other questions of the batch bring."""
    batch_questions: int = 4
    """Questions of one step; each is compared with all passages of the step."""
    held_out_share: float = 0.1
    """Share of the questions, whole passages of them, that MRR is measured on and not trained."""
    max_passage_tokens: int = 200
    """Longer passages are cut, template included, to bound a step's time."""
    checkpoint_steps: int = 20
    seed: int = 0

    def __post_init__(self) -> None:
        """Raises RequestError that names the field and what is allowed."""
        for name in _COUNTS:
            if getattr(self, name) < 1:
                raise RequestError(name, f"is {getattr(self, name)}, must be 1 or more")
        for name in ("steps", "negatives", "seed"):
            if getattr(self, name) < 0:
                raise RequestError(name, f"is {getattr(self, name)}, must be 0 or more")
        for name in ("learning_rate", "temperature"):
            if not 0 < getattr(self, name) < float("inf"):
                raise RequestError(name, f"is {getattr(self, name)}, must be above 0")
        if not 0 <= self.held_out_share < 1:
            raise RequestError("held_out_share", f"is {self.held_out_share}, must be in [0, 1)")
        if self.negatives == 0 and self.batch_questions == 1:
            raise RequestError("negatives", "is 0 with one question a batch: nothing to compare")
