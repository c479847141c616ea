"""What every engine of a process needs: model, prompt, compute slot."""

from dataclasses import dataclass
from typing import Any

from actors.engine.compute import ComputeSlot, use_threads
from actors.engine.config import EngineConfig, ModelConfig, PromptConfig
from actors.engine.models import Decoder, load_decoder
from actors.engine.prompt import Prompt


@dataclass(frozen=True, slots=True)
class Runtime:
    decoder: Decoder
    prompt: Prompt
    slot: ComputeSlot
    threads: int

    def status(self) -> dict[str, Any]:
        """Facts of the model and its machine, as plain data."""
        return {
            "model": self.decoder.name,
            "dtype": self.decoder.dtype,
            "device": str(self.decoder.device),
            "compute_threads": self.threads,
        }


def load_runtime(
    model: ModelConfig, prompt: PromptConfig, engine: EngineConfig, run_dir: str
) -> Runtime:
    """Raises UnavailableError, with the remedy, when the model does not load."""
    threads = use_threads(engine.torch_threads)
    decoder = load_decoder(model)
    return Runtime(
        decoder, Prompt(decoder.tokenizer, prompt), ComputeSlot(engine, run_dir), threads
    )
