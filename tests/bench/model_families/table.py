"""MODELS.md: one row for every type of model, written from verdicts and read back."""

import re
from collections.abc import Sequence

from tests.bench.model_families.verdict import Verdict
from tests.tracked import ROOT

PAGE = ROOT / "MODELS.md"
_ROW = re.compile(r"^\| `([^`]+)` \| (\w+) \| ([^|]*) \| (.*) \|$", re.MULTILINE)
_HEAD = """# Models

Every model is proven as it loads, before its replica counts as ready: the logits of a short text,
in the model's own dtype, against transformers' own, as a whole and over stored KV. The log has the
figures. What differs is refused with the model type, the figure and what would work. Most kinds
that cannot be computed over stored KV are refused for what their configuration says, before weights
are read.

This table has all types of causal language model of transformers {version}, each as a tiny random
model; `python -m tests.bench model_families --table` writes it, and a test checks it. *exact*:
scores and greedy answers are those of transformers, in full, over stored KV and in batches, without
the penalties and forbidden tokens of a generation_config: a replica's log names those of its model.
*fusion*: `generator.mode` can be `fusion` or `auto` as well. *untested*: transformers makes no such
model from the type's defaults. A type that is not here, or untested, is proven at load like any
other; what it does beyond the length of a short text is then not established. A model that is
configured otherwise than its type's default (dynamic or longrope RoPE, a hybrid's layers) can be
refused although its type is exact.

| type | verdict | fusion | why |
|---|---|---|---|
"""


def write_table(verdicts: Sequence[Verdict]) -> None:
    import transformers

    rows = [
        f"| `{v.model_type}` | {_verdict(v)} | {_fusion(v)} | {brief(v.why)} |" for v in verdicts
    ]
    PAGE.write_text(_HEAD.format(version=transformers.__version__) + "\n".join(rows) + "\n")


def read_table() -> dict[str, tuple[str, str]]:
    """Verdict and fusion by type."""
    found = _ROW.findall(PAGE.read_text("utf-8"))
    return {name: (kind, fusion.strip()) for name, kind, fusion, _ in found}


def said(verdict: Verdict) -> tuple[str, str]:
    """What the table has to say of a verdict."""
    return _verdict(verdict), _fusion(verdict)


def brief(why: str) -> str:
    """Without figures, which change with the machine."""
    return why.split(", as a share: ")[0].replace("|", "/")


def _verdict(verdict: Verdict) -> str:
    return "untested" if verdict.kind == "not_built" else verdict.kind


def _fusion(verdict: Verdict) -> str:
    if verdict.kind != "exact":
        return ""
    return "yes" if verdict.fusion else "no"
