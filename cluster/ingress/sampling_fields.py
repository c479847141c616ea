"""How OpenAI's clients, and those of vLLM, say what an answer's tokens are drawn from."""

from dataclasses import replace

from pydantic import Field

from actors.engine.config import GeneratorConfig
from actors.messages import Sampling
from cluster.ingress.errors import invalid
from cluster.ingress.schemas import SamplingOptions

MAX_BIASES = 1024
MAX_LOGPROBS = 20
_NO_TOP_K = -1
"""As vLLM's clients write it; 0 says the same."""


class SamplingFields(SamplingOptions):
    top_k: int = Field(0, ge=_NO_TOP_K, lt=2**31)
    min_p: float = Field(0.0, ge=0, le=1)
    repetition_penalty: float = Field(1.0, ge=0.01, le=100)
    presence_penalty: float = Field(0.0, ge=-2, le=2)
    frequency_penalty: float = Field(0.0, ge=-2, le=2)
    logit_bias: dict[int, float] = Field(default_factory=dict, max_length=MAX_BIASES)
    n: int = Field(1, ge=1, description="at most ingress.max_choices")

    @property
    def num_logprobs(self) -> int | None:
        """See `Sampling.logprobs`."""
        return None

    def sampling(self, config: GeneratorConfig, asked: int | None = None) -> Sampling:
        for token, bias in self.logit_bias.items():
            if token < 0 or not -100 <= bias <= 100:
                raise invalid("logit_bias", "must be token ids with biases from -100 to 100")
        return replace(
            super().sampling(config, asked),
            top_k=max(0, self.top_k),
            min_p=self.min_p,
            repetition_penalty=self.repetition_penalty,
            presence_penalty=self.presence_penalty,
            frequency_penalty=self.frequency_penalty,
            logit_bias=tuple(self.logit_bias.items()),
            logprobs=self.num_logprobs,
        )

    def num_choices(self, most: int) -> int:
        """Raises ApiError."""
        if self.n > most:
            raise invalid("n", f"is {self.n}, must be 1 to {most}")
        return self.n
