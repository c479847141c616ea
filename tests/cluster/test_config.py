"""The configuration tree: defaults, file, environment, overrides, and its errors."""

from pathlib import Path
from typing import Any

import pytest

from cluster.config import HyperRagConfig, load
from cluster.errors import ConfigError

SHIPPED = sorted((Path(__file__).parents[2] / "configs").glob("*.yaml"))


def write(folder: Path, text: str) -> Path:
    path = folder / "c.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_shipped_file_loads_and_changes_something(path: Path) -> None:
    config = load(path, environ={})
    assert config != HyperRagConfig()
    assert HyperRagConfig.parse(config.resolved({}).model_dump(mode="json"))


def test_there_are_shipped_files() -> None:
    assert {path.stem for path in SHIPPED} >= {"laptop", "one-gpu", "cluster"}


def test_later_sources_win(tmp_path: Path) -> None:
    path = write(
        tmp_path, "ingress: {port: 1, host: file, insecure: true}\nretrieval: {top_k: 2}\n"
    )
    env = {"HYPERRAG_CONFIG": str(path), "HYPERRAG__INGRESS__PORT": "2", "HYPERRAG_OTHER": "x"}
    config = load(overrides={"ingress.host": "caller"}, environ=env)
    assert (config.ingress.host, config.ingress.port) == ("caller", 2)
    assert config.retrieval.top_k == 2
    assert config.reranker == HyperRagConfig().reranker


def test_off_is_a_word_and_switches_all_reuse_off(tmp_path: Path) -> None:
    config = load(write(tmp_path, "reuse: off\n"), environ={}).resolved({})
    assert (config.reuse, config.reranker.reuse, config.generator.mode) == ("off", "off", "full")


def test_a_question_first_reranker_is_resolved_to_its_template_without_reuse() -> None:
    model = {"models.reranker.source": "Qwen/Qwen3-Reranker-0.6B"}
    reranker = load(overrides=model, environ={}).resolved({}).reranker
    assert (reranker.template, reranker.reuse) == ("qwen3_reranker", "off")
    swapped = model | {"reranker.template": "document_first", "reranker.scoring": "yes_no"}
    reranker = load(overrides=swapped, environ={}).resolved({}).reranker
    assert (reranker.template, reranker.reuse) == ("document_first", "on")
    assert load(environ={}).resolved({}).reranker.template == "document_first"
    with pytest.raises(ConfigError, match=r"reranker\.scoring is 'yes_no'.*set reranker\.template"):
        load(overrides=model | {"reranker.scoring": "yes_no"}, environ={})


def test_derived_paths_lie_below_the_data_directory(tmp_path: Path) -> None:
    env = {"XDG_DATA_HOME": str(tmp_path / "data"), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    config = load(environ=env).resolved(env)
    data = tmp_path / "data" / "hyperrag"
    assert config.data_dir == str(data)
    assert config.retrieval.corpus_uri == str(data / "corpus")
    assert config.retrieval.local_cache_dir == str(data / "corpus-cache")
    assert config.store.ssd_dir == str(data / "segments")
    assert config.models.reranker.cache_dir == str(tmp_path / "cache" / "hyperrag" / "models")
    assert config.resolved(env) == config


def test_given_paths_are_kept(tmp_path: Path) -> None:
    overrides = {
        "data_dir": str(tmp_path),
        "store.ssd_dir": "",
        "retrieval.corpus_uri": "s3://bucket/corpus",
        "models.generator.cache_dir": "/weights",
        "reranker.scoring": "head",
        "reranker.head": "~/head.safetensors",
    }
    config = load(overrides=overrides, environ={}).resolved({})
    assert config.store.ssd_dir == ""
    assert config.retrieval.corpus_uri == "s3://bucket/corpus"
    assert config.models.generator.cache_dir == "/weights"
    assert config.reranker.head == str(Path("~/head.safetensors").expanduser())


@pytest.mark.parametrize(
    ("key", "value", "named"),
    [
        ("stor.dram_bytes", 1, ["stor", "allowed", "store"]),
        ("store.dram", 1, ["store.dram", "dram_bytes"]),
        ("models.reranker.name", "x", ["models.reranker.name", "source"]),
        ("store.dram_bytes", 0, ["store.dram_bytes is 0", "above 0"]),
        ("reuse", "maybe", ["reuse", "'maybe'", "'on' or 'off'"]),
        ("generator.mode", "fast", ["generator.mode", "'prefix', 'fusion', 'auto' or 'full'"]),
        ("generator.fusion.ratio", 1.5, ["fusion.ratio is 1.5", "[0, 1]"]),
        ("generator.fusion.min_gain", 0.5, ["fusion.min_gain is 0.5", "1 or more"]),
        ("generator.fusion.selection", "best", ["generator.fusion.selection", "'epic'"]),
        (
            "generator.passage_order",
            "id",
            ["generator.passage_order", "'relevance' or 'canonical'"],
        ),
        ("generator.overlap", "all", ["generator.overlap", "'store', 'both' or 'request'"]),
        ("reranker.scoring", "bm25", ["reranker.scoring", "'yes_no' or 'head'"]),
        ("reranker.template", "mine", ["reranker.template", "'document_first'", "'bge_gemma'"]),
        ("reranker.head", "x", ["reranker.head is 'x'", "reranker.scoring"]),
        ("prompt.judge_instruction", "well?", ["prompt.judge_instruction", "{question}"]),
        ("ingress.port", "x", ["ingress.port", "'x'", "integer"]),
        ("ingress.port", 70000, ["ingress.port is 70000", "1 to 65535"]),
        ("ingress.host", "0.0.0.0", ["'0.0.0.0'", "ingress.api_keys_file", "--insecure"]),
        ("ingress.model_aliases", {"x": "y"}, ["'y' for 'x'", "hyperrag-plain", "@COLLECTION"]),
        ("ingress.model_aliases", {"hyperrag": "hyperrag-plain"}, ["'hyperrag'", "own name"]),
        (
            "ingress.reranker_name",
            "hyperrag-plain",
            ["reranker_name and", "must differ"],
        ),
        ("ingress.sse_keepalive_s", 0, ["ingress.sse_keepalive_s is 0", "above 0"]),
        ("ingress.default_collection", "a/b", ["ingress.default_collection", "a/b"]),
        ("retrieval.history_turns", 0, ["retrieval.history_turns is 0", "1 to 16"]),
        ("reranker.max_document_passages", 0, ["max_document_passages is 0", "1 or more"]),
        ("retrieval.top_k", 99, ["top_k <= top_n", "99"]),
        ("reranker.device_tier.bytes", -1, ["device_tier.bytes is -1", "0 or more"]),
        ("generator.device_tier.arena_share", 0.6, ["arena_share is 0.6", "(0, 0.5]"]),
        ("reranker.device_tier.policy", "mru", ["reranker.device_tier.policy", "'lru'"]),
        ("placement.reranker_gpus", 1.5, ["placement.reranker_gpus is 1.5"]),
        ("placement.max_surge_percent", 101, ["placement.max_surge_percent is 101", "0 to 100"]),
        ("placement.cpu_labels", "cpu", ["placement.cpu_labels", "'cpu'"]),
        ("store", "big", ["store", "'big'"]),
        ("reuse.x", 1, ["reuse"]),
    ],
)
def test_a_wrong_key_or_value_is_named_with_what_is_allowed(
    key: str, value: Any, named: list[str]
) -> None:
    with pytest.raises(ConfigError) as caught:
        load(overrides={key: value}, environ={})
    for part in named:
        assert part in str(caught.value)


@pytest.mark.parametrize("text", ["a: [", "- a", "\x00", "text"])
def test_a_bad_file_is_named(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match=r"c\.yaml"):
        load(write(tmp_path, text), environ={})


def test_a_missing_file_is_named() -> None:
    with pytest.raises(ConfigError, match=r"/nowhere\.yaml"):
        load(environ={"HYPERRAG_CONFIG": "/nowhere.yaml"})


def test_an_empty_file_is_the_defaults(tmp_path: Path) -> None:
    assert load(write(tmp_path, ""), environ={}) == HyperRagConfig()


def test_device_tiers_on_cpus_leave_half_of_the_arena_to_evict() -> None:
    """Three replicas of at most a quarter each are too many; on a GPU they pin nothing."""
    many = {
        "store.dram_bytes": 1000,
        "reranker.num_replicas": 2,
        "reranker.device_tier.bytes": 10**9,
        "generator.device_tier.bytes": 250,
    }
    with pytest.raises(ConfigError, match=r"750 bytes.*0\.5 of store\.dram_bytes = 1000"):
        load(overrides=many, environ={})
    load(overrides=many | {"reranker.device_tier.arena_share": 0.125}, environ={})
    load(overrides=many | {"models.reranker.device": "cuda"}, environ={})


@pytest.mark.parametrize(
    "with_it", [{"ingress.api_keys_file": "keys.yaml"}, {"ingress.insecure": True}]
)
def test_beyond_loopback_it_listens_with_keys_or_when_told_to(with_it: dict[str, object]) -> None:
    assert load(overrides={"ingress.host": "0.0.0.0", **with_it}, environ={})
