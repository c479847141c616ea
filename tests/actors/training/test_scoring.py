from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from actors.engine.config import ModelConfig
from actors.errors import RequestError
from actors.training.functions import log_probs
from actors.training.scoring import Scorer
from tests.actors.training.tiny import PASSAGES, PROMPT, QUESTIONS, save_tiny, served_scores

SINKS = ("granite_swa", {"sliding_window": 512, "layer_types": ["full_attention"] * 2})
"""A family whose heads have attention sinks, zeros until they are trained."""


@pytest.mark.parametrize(
    "family, more",
    [("llama", {}), ("qwen3", {}), ("gemma2", {}), ("granite", {"logits_scaling": 0.5}), SINKS],
)
def test_scores_are_those_of_the_engine_that_serves(
    family: str, more: dict[str, Any], tmp_path: Path
) -> None:
    model = save_tiny(family, tmp_path / family, **more)
    with torch.no_grad():
        ours = Scorer(model, PROMPT, rank=4, seed=0).scores(QUESTIONS[:3], PASSAGES)
    for row, question in zip(ours, QUESTIONS, strict=False):
        served = torch.tensor(served_scores(model, question, tmp_path))
        assert served.std() > 0.01
        torch.testing.assert_close(row, served, atol=1e-3, rtol=0)


def test_neither_other_questions_nor_other_passages_move_a_score(tiny: ModelConfig) -> None:
    scorer = Scorer(tiny, PROMPT, rank=4, seed=0)
    passages = ["Short.", *PASSAGES[:2]]
    with torch.no_grad():
        together = scorer.scores(QUESTIONS[:2], passages)
        for i, question in enumerate(QUESTIONS[:2]):
            for j, passage in enumerate(passages):
                alone = scorer.scores([question], [passage])[0, 0]
                assert float(together[i, j]) == pytest.approx(float(alone), abs=1e-5)


def test_gradients_reach_the_tokens_of_a_passage(tiny: ModelConfig) -> None:
    scorer = Scorer(tiny, PROMPT, rank=4, seed=0)
    embedding = scorer.causal.get_input_embeddings().weight.requires_grad_()
    torch.autograd.backward(scorer.scores(["Why?"], ["zebra"]).sum())
    letter = scorer.tokenizer.encode("z")[0]
    assert embedding.grad[letter].abs().sum() > 0


def test_with_little_memory_gradients_are_the_same(
    tiny: ModelConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    scorer = Scorer(tiny, PROMPT, rank=4, seed=0)

    def gradients() -> list[Tensor]:
        loss = scorer.scores(QUESTIONS[:2], PASSAGES).square().sum()
        return list(torch.autograd.grad(loss, list(scorer.weights.values())))

    roomy = gradients()
    assert not scorer.causal.is_gradient_checkpointing
    monkeypatch.setattr(Scorer, "_free_bytes", lambda self: 0)
    tight = gradients()
    assert scorer.causal.is_gradient_checkpointing
    torch.testing.assert_close(tight, roomy)


def test_a_prompt_beyond_the_window_names_the_option(tmp_path: Path) -> None:
    model = save_tiny("mistral", tmp_path / "windowed", sliding_window=16)
    with pytest.raises(RequestError, match="max_passage_tokens.* trained on 16"):
        Scorer(model, PROMPT, rank=4, seed=0).scores(["Why?"], PASSAGES)


@pytest.mark.parametrize("softcap", [None, 3.0])
def test_gradients_of_log_probs_are_those_of_autograd(softcap: float | None) -> None:
    torch.manual_seed(0)
    hidden = torch.randn(300, 8, requires_grad=True)
    head, targets = torch.randn(50, 8), torch.randint(50, (300,))
    upstream = torch.randn(300)

    def plain() -> Tensor:
        logits = hidden @ head.T
        if softcap is not None:
            logits = softcap * torch.tanh(logits / softcap)
        return logits.log_softmax(-1).gather(1, targets[:, None])[:, 0]

    ours = log_probs(hidden, head, targets, softcap)
    torch.testing.assert_close(ours, plain())
    (mine,) = torch.autograd.grad(ours, hidden, upstream)
    (theirs,) = torch.autograd.grad(plain(), hidden, upstream)
    torch.testing.assert_close(mine, theirs)
