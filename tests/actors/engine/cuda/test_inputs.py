import pytest
import torch
from torch import Tensor

from actors.engine.cuda import CascadeLane, PassInputs, cascade_parts
from actors.engine.cuda.parts import PassShape
from kvstore.types import Layout
from tests.actors.engine.cuda.passes import CPU

LAYOUT = Layout(3, 2, 1, 8, "float32")


def kv(tokens: int) -> Tensor:
    return torch.zeros(3, 2, 2, tokens, 8)


def test_packed_inputs_say_where_everything_is() -> None:
    prefix, passage = kv(4), kv(5)
    lanes = [CascadeLane([11, 12], [prefix, passage]), CascadeLane([13, 14, 15], [prefix])]
    inputs = PassInputs.packed(lanes, LAYOUT, CPU)
    assert inputs.ids.tolist() == [[11, 12, 13, 14, 15]]
    assert inputs.positions.tolist() == [[9, 10, 4, 5, 6]]
    parts = inputs.parts
    assert parts.table[:, 0].tolist() == [prefix.data_ptr()] * 2
    assert parts.table[0, 1] == passage.data_ptr()
    assert parts.strides[0].tolist() == [2 * 2 * 4 * 8 * 4, 2 * 2 * 5 * 8 * 4]
    assert parts.lengths.tolist() == [[4, 5], [4, 0]]
    assert parts.starts.tolist() == [0, 2, 5] and inputs.starts == [0, 2]
    assert parts.widths.tolist() == [2, 3] and parts.max_width == 3 and parts.num_rows == 5


def test_a_bucket_is_filled_again_in_place() -> None:
    inputs = PassInputs(PassShape(3, 2, 4, 12), LAYOUT, CPU)
    inputs.fill([CascadeLane([7] * 4, [kv(5), kv(6)])] * 3)
    buffers = (inputs.ids, inputs.parts.table, inputs.parts.widths)
    addresses = [t.data_ptr() for t in buffers]
    inputs.fill([CascadeLane([1], []), CascadeLane([2, 3, 4, 5], [kv(6)])])
    assert inputs.ids.tolist() == [[1, 0, 0, 0, 2, 3, 4, 5, 0, 0, 0, 0]]
    assert inputs.positions.tolist() == [[0, 0, 0, 0, 6, 7, 8, 9, 0, 0, 0, 0]]
    assert inputs.parts.starts.tolist() == [0, 4, 8, 12] and inputs.starts == [0, 4]
    assert inputs.parts.widths.tolist() == [1, 4, 0]
    assert inputs.parts.lengths.tolist() == [[0, 0], [6, 0], [0, 0]]
    assert addresses == [
        t.data_ptr() for t in (inputs.ids, inputs.parts.table, inputs.parts.widths)
    ]
    assert len(inputs.parts.segments) == 2


@pytest.mark.parametrize(
    ("segment", "message"),
    [
        (kv(4)[:2], r"segment \[2, 2, 2, 4, 8\]"),
        (kv(4).bfloat16(), "torch.bfloat16"),
        (kv(4).to("meta"), "on meta"),
        (kv(8)[:, :, :, ::2], "must be contiguous"),
        (torch.zeros(3 * 2 * 2 * 4 * 8 + 1)[1:].view(3, 2, 2, 4, 8), "multiples of 16"),
    ],
)
def test_what_the_kernel_cannot_read_is_refused(segment: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        cascade_parts([[segment]], [1], LAYOUT, CPU)


def test_what_does_not_fit_is_refused() -> None:
    inputs = PassInputs(PassShape(2, 1, 4, 8), LAYOUT, CPU)
    lane = CascadeLane([1], [])
    for lanes, message in (
        ([lane] * 3, "3 lanes of segments"),
        ([CascadeLane([1] * 5, [])], "1 to 4 are allowed"),
        ([CascadeLane([], [])], "1 to 4 are allowed"),
        ([CascadeLane([1], [kv(1), kv(1)])], "lane 0 has 2 parts, at most 1 fit"),
    ):
        with pytest.raises(ValueError, match=message):
            inputs.fill(lanes)
    with pytest.raises(ValueError, match="at least one lane"):
        cascade_parts([], [], LAYOUT, CPU)
    with pytest.raises(ValueError, match="equally many"):
        cascade_parts([[], []], [1], LAYOUT, CPU)
