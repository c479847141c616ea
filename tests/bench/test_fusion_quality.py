"""The figures of fusion_quality mean what they say."""

import numpy as np
import pytest
import torch

from tests.bench.fusion_quality import Arm, arms_of, gap_closed, picked, table
from tests.bench.fusion_quality.arms import Outcome, divergence


def outcome(*logits: float) -> Outcome:
    return Outcome(torch.tensor(logits, dtype=torch.float32).log_softmax(-1), gold=-1.0, f1=0.5)


def test_divergence_is_none_of_itself_and_grows() -> None:
    full = outcome(3, 1, 0)
    near, far = outcome(2.5, 1, 0), outcome(0, 1, 3)
    assert divergence(full, full) == 0
    assert 0 < divergence(full, near) < divergence(full, far)
    p, q = full.log_probs.exp().numpy(), far.log_probs.exp().numpy()
    assert divergence(full, far) == pytest.approx(float((p * np.log(p / q)).sum()), rel=1e-5)


def test_gap_closed_is_0_for_full_reuse_and_1_for_full_attention() -> None:
    reuse = np.array([1.0, 3.0, 2.0])
    assert gap_closed(reuse, reuse, 0) == (0, 0, 0)
    assert gap_closed(np.zeros(3), reuse, 0) == (1, 1, 1)
    closed, low, high = gap_closed(reuse * np.array([0.5, 0.1, 0.3]), reuse, 0)
    assert closed == pytest.approx(1 - 1.4 / 6) and low < closed < high


def test_a_table_has_the_figures_of_the_contract() -> None:
    arms = arms_of(("epic", "random"), (0.15,))
    assert arms[0] == Arm("mixed", 0.0, False, spoken=True)
    full = [outcome(3, 1, 0), outcome(0, 2, 1)]
    found = [[outcome(0, 1, 3), outcome(1, 2, 0)] for _ in arms]
    found[1] = full
    rows = [{"data": "squad", **row} for row in table(arms, full, found, 0)]
    figures = picked(rows, ("epic", "random"), "epic")
    assert figures["squad_gap_closed_r00"] == 1
    assert figures["squad_gap_closed_r15_default"] == figures["squad_gap_closed_r15_epic"] == 0
    assert {"squad_raw_gap_closed_r15_random", "squad_gap_closed_r15_random"} <= figures.keys()
    assert rows[1]["top1_same"] == 1 and rows[0]["top1_same"] == 0.5
