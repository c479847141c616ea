"""LoRA on all linear layers of a frozen model (Hu et al., 2106.09685), and merging it."""

import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from actors.errors import UnavailableError
from actors.training import functions

_TEMPORARY = re.compile(r"\.model-[a-z0-9_]{8}")


def load_adapted(folder: Path, dtype: torch.dtype, rank: int) -> Any:
    """The model in `folder`, frozen, in `dtype`, with LoRA weights in fp32 that change nothing yet.

    The first LoRA matrices are drawn from torch's generator. Raises UnavailableError, with the
    remedy, when the model or peft is not there.
    """
    from transformers import AutoConfig, AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError as error:
        raise UnavailableError(
            "training needs the packages of an extra: pip install 'hyperrag[train]'"
        ) from error
    functions.register()
    try:
        facts = AutoConfig.from_pretrained(folder)
        model = AutoModelForCausalLM.from_pretrained(
            folder, config=facts, dtype=dtype, attn_implementation=functions.ATTENTION
        )
    except (OSError, ValueError) as error:
        raise UnavailableError(f"model {str(folder)!r} does not load: {error}") from error
    lora = LoraConfig(
        r=rank, lora_alpha=2 * rank, target_modules="all-linear", task_type="CAUSAL_LM"
    )
    return get_peft_model(model, lora)


def lora_weights(model: Any) -> dict[str, torch.nn.Parameter]:
    """By name; the same names in every model of one architecture."""
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def save_merged(source: Path, lora: Mapping[str, Tensor], rank: int, out: Path) -> None:
    """Write the model in `source` with `lora` merged, its tokenizer and configuration to `out`.

    Merged in fp32, written in the dtype of the source. `config.json` comes last: a folder without
    it is no model.
    """
    from transformers import AutoConfig, AutoTokenizer

    model = load_adapted(source, torch.float32, rank)
    with torch.no_grad():
        for name, weight in lora_weights(model).items():
            weight.copy_(lora[name])
    merged = model.merge_and_unload()
    merged.to(AutoConfig.from_pretrained(source).dtype or torch.float32)
    for stale in out.iterdir():  # of a run that was killed
        if _TEMPORARY.fullmatch(stale.name):
            shutil.rmtree(stale, ignore_errors=True)
    with TemporaryDirectory(prefix=".model-", dir=out) as name:
        temporary = Path(name)
        merged.save_pretrained(temporary)
        AutoTokenizer.from_pretrained(source).save_pretrained(temporary)
        for path in sorted(temporary.iterdir(), key=lambda p: p.name == "config.json"):
            os.replace(path, out / path.name)
