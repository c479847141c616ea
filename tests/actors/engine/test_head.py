"""The output head, against the logits that transformers gives."""

from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from actors.engine.head import Head

SCALED: dict[str, dict[str, Any]] = {
    "granite": {"logits_scaling": 8.0},
    "granite_swa": {"logits_scaling": 4.0},
    "cohere": {"logit_scale": 0.0625},
    "cohere2": {"logit_scale": 0.25},
    "hyperclovax": {"logits_scaling": 3.0},  # a factor, where Granite's is a divisor
    "gemma2": {"final_logit_softcapping": 2.0},
    "llama": {},
}


@pytest.mark.parametrize("family", SCALED)
def test_logits_and_log_probs_are_those_of_the_model(family: str) -> None:
    torch.manual_seed(7)
    shape = {
        "vocab_size": 96, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "pad_token_id": 0,
        "initializer_range": 0.3,
    }  # fmt: skip
    facts = AutoConfig.for_model(family, **shape | SCALED[family])
    model = AutoModelForCausalLM.from_config(facts, attn_implementation="eager").eval()
    ids = torch.randint(3, 96, (1, 20))
    with torch.inference_mode():
        expected = model(ids).logits[0].float()
        hidden = model.get_decoder()(ids).last_hidden_state[0]
        head, targets = Head.of(model), ids[0].roll(-1)
        assert expected.std() > 0.01
        torch.testing.assert_close(head.logits(hidden), expected, atol=1e-5, rtol=0)
        wanted = expected.log_softmax(-1).gather(1, targets[:, None])[:, 0]
        torch.testing.assert_close(head.log_probs(hidden, targets), wanted, atol=1e-5, rtol=0)
        few = head.token_logits(hidden, [5, 9])
        torch.testing.assert_close(few, expected[:, [5, 9]], atol=1e-5, rtol=0)
