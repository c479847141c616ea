import pytest
import torch

from actors.engine.device.staging import Staging

CPU = torch.device("cpu")


@pytest.mark.parametrize("sizes", [[], [0], [1], [7], [8], [9], [3, 5], [5, 4, 0, 23], [8, 8]])
def test_pieces_lie_one_behind_the_other(sizes: list[int]) -> None:
    """Buffers of 8 bytes: pieces end before, at and behind the end of one."""
    pieces = [torch.randint(256, (n,), dtype=torch.uint8) for n in sizes]
    target = torch.zeros(sum(sizes) + 1, dtype=torch.uint8)
    staging = Staging(CPU, buffer_bytes=8)
    for _ in range(2):
        target.zero_()
        staging.gather(pieces, target[:-1])
        assert torch.equal(target[:-1], torch.cat([*pieces, target[:0]]))
        assert not target[-1], "nothing beyond"
