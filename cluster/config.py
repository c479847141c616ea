"""The one configuration tree, and the only place that it is read from files and environment.

Later wins: defaults in the components' dataclasses, a sparse YAML file (`--config` or
HYPERRAG_CONFIG), HYPERRAG__SECTION__KEY variables, what the caller overrides.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Literal, Self, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from actors.engine.config import (
    MAX_ARENA_SHARE,
    EngineConfig,
    GeneratorConfig,
    ModelConfig,
    PromptConfig,
    RerankerConfig,
)
from actors.engine.families import query_first_family
from actors.retrieval.config import RetrievalConfig
from cluster.autoscaling.config import AutoscalerConfig
from cluster.autoscaling.splits import Budget, Split
from cluster.errors import ConfigError
from cluster.ingress.config import IngressConfig
from cluster.placement import PlacementConfig
from cluster.yaml_tree import put, read_yaml
from kvstore.config import StoreConfig

PREFIX = "HYPERRAG__"


@dataclass(frozen=True, slots=True)
class ModelsConfig:
    """One model for both stages makes the reranker's segments the generator's."""

    __pydantic_config__ = {"extra": "forbid"}

    reranker: ModelConfig = field(default_factory=ModelConfig)
    generator: ModelConfig = field(default_factory=ModelConfig)


class HyperRagConfig(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    data_dir: str = ""
    """Corpus, segments and locks; empty: $XDG_DATA_HOME/hyperrag."""
    model_cache_dir: str = ""
    """Converted weights; empty: $XDG_CACHE_HOME/hyperrag/models."""
    reuse: Literal["on", "off"] = "on"
    """`off` sets reranker.reuse to off and generator.mode to full: the baseline of comparisons."""
    models: ModelsConfig = Field(default_factory=ModelsConfig)
    prompt: PromptConfig = Field(default_factory=PromptConfig)
    engine: EngineConfig = Field(default_factory=EngineConfig)
    retrieval: RetrievalConfig = Field(default_factory=RetrievalConfig)
    reranker: RerankerConfig = Field(default_factory=RerankerConfig)
    generator: GeneratorConfig = Field(default_factory=GeneratorConfig)
    store: StoreConfig = Field(default_factory=StoreConfig)
    ingress: IngressConfig = Field(default_factory=IngressConfig)
    placement: PlacementConfig = Field(default_factory=PlacementConfig)
    autoscaler: AutoscalerConfig = Field(default_factory=AutoscalerConfig)

    @property
    def budget(self) -> Budget:
        """GPUs that reranker and generator may take together, and what a replica takes."""
        place, scaler = self.placement, self.autoscaler
        asked = Split(self.reranker.num_replicas, self.generator.num_replicas)
        gpus = scaler.gpus or (
            asked.rerank * place.reranker_gpus + asked.generate * place.generator_gpus
        )
        return replace(scaler, gpus=gpus).budget(place.reranker_gpus, place.generator_gpus)

    @property
    def splits(self) -> list[Split]:
        """How many replicas of each there can be."""
        asked = Split(self.reranker.num_replicas, self.generator.num_replicas)
        return [asked, *self.budget.splits()] if self.autoscaler.enabled else [asked]

    @property
    def run_dir(self) -> str:
        """Locks of the node's processes."""
        return str(Path(self.data_dir) / "run")

    def resolved(self, environ: Mapping[str, str] | None = None) -> "HyperRagConfig":
        """With every derived value filled in: what runs. Resolving twice changes nothing."""
        env = os.environ if environ is None else environ
        data = _folder(self.data_dir, env, "XDG_DATA_HOME", "~/.local/share")
        weights = _folder(self.model_cache_dir, env, "XDG_CACHE_HOME", "~/.cache", "models")
        off = self.reuse == "off"
        untouched = self.store.ssd_dir == StoreConfig().ssd_dir
        ssd = str(data / "segments") if untouched else _expanded(self.store.ssd_dir)
        retrieval = replace(
            self.retrieval,
            corpus_uri=_uri(self.retrieval.corpus_uri) or str(data / "corpus"),
            local_cache_dir=_expanded(self.retrieval.local_cache_dir) or str(data / "corpus-cache"),
        )
        keys = _expanded(self.ingress.api_keys_file)
        return self.model_copy(
            update={
                "data_dir": str(data),
                "model_cache_dir": str(weights),
                "models": ModelsConfig(
                    _cached(self.models.reranker, weights), _cached(self.models.generator, weights)
                ),
                "reranker": self._resolved_reranker(),
                "generator": replace(self.generator, mode="full") if off else self.generator,
                "retrieval": retrieval,
                "store": replace(self.store, ssd_dir=ssd),
                "ingress": replace(self.ingress, api_keys_file=keys),
                "autoscaler": replace(self.autoscaler, gpus=self.budget.gpus),
            }
        )

    def _resolved_reranker(self) -> RerankerConfig:
        """With the template that runs; a question-first one reuses nothing."""
        family = query_first_family(self.reranker, self.models.reranker.source)
        return replace(
            self.reranker,
            template="document_first" if family is None else family.template,
            reuse="off" if family is not None or self.reuse == "off" else self.reranker.reuse,
            head=_expanded(self.reranker.head),
        )

    @classmethod
    def parse(cls, raw: Mapping[str, Any]) -> Self:
        """Raises ConfigError that names the first key that is wrong, its value, what is allowed."""
        try:
            config = cls.model_validate(raw)
        except ValidationError as error:
            raise _explain(error) from None
        config._require_a_budget()
        config._require_an_arena_to_evict()
        config._require_a_rule_of_the_template()
        return config

    def _require_a_rule_of_the_template(self) -> None:
        try:
            query_first_family(self.reranker, self.models.reranker.source)
        except ValueError as error:
            raise ConfigError("reranker.scoring", self.reranker.scoring, str(error)) from None

    def _require_a_budget(self) -> None:
        asked, splits = self.splits[0], self.splits[1:]
        if not self.autoscaler.enabled:
            return
        if not splits or not self.budget.allows(asked):
            allowed = (
                f"must be enough for num_replicas of both, {self.budget.taken(asked):g}, and "
                "autoscaler.min_gpus at most as much as it"
            )
            raise ConfigError("autoscaler.gpus", self.budget.gpus, allowed)

    def _require_an_arena_to_evict(self) -> None:
        """What device tiers on CPUs pin of one arena, were all replicas on one node."""
        arena = self.store.dram_bytes
        rank, write = (
            0.0 if model.device == "cuda" else min(tier.bytes, tier.arena_share * arena)
            for tier, model in (
                (self.reranker.device_tier, self.models.reranker),
                (self.generator.device_tier, self.models.generator),
            )
        )
        pinned = max(s.rerank * rank + s.generate * write for s in self.splits)
        if pinned > MAX_ARENA_SHARE * arena:
            raise ConfigError(
                "device_tier",
                f"{pinned:.0f} bytes for all replicas",
                f"must be at most {MAX_ARENA_SHARE:g} of store.dram_bytes = {arena}: lower bytes "
                "or arena_share of reranker.device_tier and generator.device_tier",
            )


def load(
    path: str | Path | None = None,
    overrides: Mapping[str, object] | None = None,
    environ: Mapping[str, str] | None = None,
) -> HyperRagConfig:
    """The configuration, not yet resolved. `overrides` has dotted keys: {"ingress.port": 9000}."""
    env = os.environ if environ is None else environ
    file = path or env.get("HYPERRAG_CONFIG", "")
    tree = read_yaml(Path(file).expanduser()) if file else {}
    for name, text in sorted(env.items()):
        if name.startswith(PREFIX):
            put(tree, name.removeprefix(PREFIX).lower().split("__"), text, name)
    for key, value in (overrides or {}).items():
        put(tree, key.split("."), value, key)
    return HyperRagConfig.parse(tree)


def _folder(given: str, env: Mapping[str, str], variable: str, default: str, *below: str) -> Path:
    base = Path(given) if given else Path(env.get(variable) or default, "hyperrag", *below)
    return base.expanduser().absolute()


def _cached(model: ModelConfig, weights: Path) -> ModelConfig:
    untouched = model.cache_dir == ModelConfig().cache_dir
    return replace(model, cache_dir=str(weights) if untouched else _expanded(model.cache_dir))


def _expanded(path: str) -> str:
    return str(Path(path).expanduser().absolute()) if path else ""


def _uri(uri: str) -> str:
    return uri if "://" in uri else _expanded(uri)


def _explain(error: ValidationError) -> ConfigError:
    first = error.errors(include_url=False)[0]
    keys = [str(part) for part in first["loc"]]
    value, message = first.get("input"), first["msg"].removeprefix("Value error, ")
    if first["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        names = ", ".join(_keys_at(keys[:-1]))
        message = f"unknown key; allowed in {'.'.join(keys[:-1]) or 'the file'}: {names}"
    return ConfigError(".".join(keys), value, message)


def _keys_at(keys: list[str]) -> list[str]:
    node: Any = HyperRagConfig
    for key in keys:
        node = get_type_hints(node)[key]
    if is_dataclass(node):
        return [f.name for f in fields(node)]
    return list(HyperRagConfig.model_fields)
