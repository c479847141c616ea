import pytest
import torch

from actors.engine.cuda.head import log_probs_of


@pytest.mark.usefixtures("interpreter")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("cap", [None, 4.0])
@pytest.mark.parametrize("vocabulary", [1, 100, 4096, 9001])
def test_log_probs_equal_log_softmax(
    dtype: torch.dtype, cap: float | None, vocabulary: int
) -> None:
    torch.manual_seed(vocabulary)
    logits = (5 * torch.randn(7, vocabulary)).to(dtype)
    targets = torch.randint(vocabulary, (7,))
    wanted = logits.float() if cap is None else cap * torch.tanh(logits.float() / cap)
    wanted = wanted.log_softmax(-1).gather(1, targets[:, None])[:, 0]
    assert (log_probs_of(logits, targets, cap) - wanted).abs().max() < 1e-5
