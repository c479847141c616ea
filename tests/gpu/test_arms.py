"""The scenario's arms at a tiny shape: what is compared computes the same scores."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from actors.engine.cuda import (
    GraphConfig,
    GraphRunner,
    LayerLoader,
    cascade_forward,
    cascade_reference,
)
from actors.engine.device.staging import Staging
from kvstore.types import Layout
from tests.actors.engine.cuda.test_graphs import PlainReplay
from tests.actors.engine.logged_streams import LoggedStreams
from tests.gpu.__main__ import main
from tests.gpu.arms import recompute
from tests.gpu.candidates import Candidates, Sizes
from tests.gpu.floor import Machine, compute_floor_s
from tests.gpu.rerank import arms_of, rows_of
from tests.gpu.rig import Rig, plain_log_probs, random_model
from tests.gpu.stores import Stocked, stocked

CPU = torch.device("cpu")
SIZES = Sizes(candidates=6, prefix=3, passage=20, suffix=4, question=5)
TINY: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 1,
    "head_dim": 8,
    "intermediate_size": 64,
    "vocab_size": 128,
    "max_position_embeddings": 64,
}


@pytest.fixture(scope="module")
def rig() -> Rig:
    model = random_model(TINY, "float32", CPU, seed=3)
    layout = Layout(3, 1, 1, 8, "float32")
    graphs = GraphRunner(
        lambda inputs: cascade_forward(model, inputs, attention=cascade_reference),
        layout,
        CPU,
        GraphConfig(lanes=(4, 8), widths=(4, 8)),
        PlainReplay,
    )
    loader = LayerLoader(layout, CPU, LoggedStreams(), Staging(CPU).gather)
    return Rig(model, layout, CPU, cascade_reference, plain_log_probs, loader, graphs)


@pytest.fixture
def stock(rig: Rig, tmp_path: Path) -> Iterator[Stocked]:
    sets = (Candidates(rig, SIZES, 1), Candidates(rig, SIZES, 2))
    with stocked(*sets, CPU, tmp_path / "ssd", str(tmp_path)) as made:
        yield made


def test_every_arm_scores_what_full_computation_does(stock: Stocked) -> None:
    for name, arm in arms_of(stock).items():
        for turn in range(4):
            candidates = stock.sets[turn % 2 if name.startswith("ssd") else 0]
            question = candidates.question(turn)
            stock.drop_page_cache()
            wanted = recompute(candidates, question)
            assert len(set(wanted)) == SIZES.candidates, "the candidates differ"
            assert arm(candidates, question) == pytest.approx(wanted, abs=1e-4), name


def test_sets_read_in_turn_come_from_the_ssd(stock: Stocked) -> None:
    for turn in range(5):
        with stock.sets[turn % 2].lease(stock.through_store) as lease:
            tiers = [hit.tier for hit in lease.store_hits]
            assert not turn or tiers.count("ssd") >= 0.75 * len(tiers)


def test_floor_is_the_slower_of_compute_and_memory(rig: Rig) -> None:
    slow_math, slow_memory = Machine(1e3, 1e30, 1.0), Machine(1e30, 1e3, 1.0)
    # A layer: q, k, v, o of 32 x (32 + 8 + 8 + 32), three products of 32 x 64, two norms.
    weights = 3 * (32 * (32 + 8 + 8 + 32) + 3 * 32 * 64 + 2 * 32)
    attended = 30 * (SIZES.past + 3)
    flops = 2 * 30 * (weights + 32 * 128) + 4 * 3 * 4 * 8 * attended
    moved = 2 * (weights + 32 * 128) + 6 * SIZES.past * 3 * 2 * 8 * 4
    assert compute_floor_s(rig, SIZES, slow_math) == pytest.approx(flops / 1e3)
    assert compute_floor_s(rig, SIZES, slow_memory) == pytest.approx(moved / 1e3)


def test_the_scenario_measures_every_arm_beside_the_baseline(rig: Rig) -> None:
    rows = {row["arm"]: row for row in rows_of(rig, SIZES, Machine(1e12, 1e12, 1e12), 1)}
    assert rows.keys() == {"recompute"} | {
        f"{tier}{how}" for tier in ("hbm", "dram", "ssd") for how in ("", "_graph")
    }
    assert all(row["max_score_difference"] < 1e-4 for row in rows.values() if "floor_s" in row)


@pytest.mark.skipif(torch.cuda.is_available(), reason="here it would run")
def test_without_a_gpu_the_reason_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["tests.gpu", "rerank"])
    assert main() == 2
    assert "needs a CUDA device" in capsys.readouterr().err
