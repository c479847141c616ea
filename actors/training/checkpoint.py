"""State of a run in one file: safetensors, with what is not a tensor as JSON in its metadata.

    lora.NAME                                 LoRA weights
    exp_avg.NAME  exp_avg_sq.NAME  step.NAME  AdamW's state of each
    metadata["state"]                         JSON: settings, steps done, losses, seconds

A file is written under a temporary name, synced and renamed: a kill leaves the one before it.
Order and first weights follow from the seed, so no state of a random generator is kept.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from actors.errors import RequestError, UnavailableError

Weights = Mapping[str, torch.nn.Parameter]
Settings = dict[str, Any]


def save(path: Path, weights: Weights, optimizer: torch.optim.AdamW, state: Settings) -> None:
    tensors = {f"lora.{name}": p.detach().contiguous() for name, p in weights.items()}
    for name, parameter in weights.items():
        for key, value in optimizer.state[parameter].items():
            tensors[f"{key}.{name}"] = value
    temporary = path.with_name(f".{path.name}.tmp")
    save_file(tensors, temporary, metadata={"state": json.dumps(state)})
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    os.replace(temporary, path)


def read_state(path: Path) -> Settings:
    """Raises UnavailableError, with the remedy, for a file that is no checkpoint."""
    try:
        with safe_open(path, "pt") as file:
            state: Settings = json.loads(file.metadata()["state"])
            return state
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise UnavailableError(f"{path} is no checkpoint; remove it to train anew") from error


def restore(path: Path, weights: Weights, optimizer: torch.optim.AdamW) -> None:
    """Into weights and optimizer of the same settings, as they were."""
    kinds: dict[str, dict[str, torch.Tensor]] = {name: {} for name in weights}
    for key, tensor in load_file(path).items():
        kind, name = key.split(".", 1)
        kinds[name][kind] = tensor
    with torch.no_grad():
        for name, parameter in weights.items():
            parameter.copy_(kinds[name].pop("lora"))
            optimizer.state[parameter] = {
                kind: value if kind == "step" else value.to(parameter.device)
                for kind, value in kinds[name].items()
            }


def require_same(settings: Settings, found: Settings, out: Path) -> None:
    """Raises RequestError that names the first setting that differs."""
    for name in settings | found:
        if settings.get(name) != found.get(name):
            raise RequestError(
                name,
                f"is {settings.get(name)!r}, but {out} holds a run with {found.get(name)!r}: "
                "continue with the same, or give another folder",
            )
