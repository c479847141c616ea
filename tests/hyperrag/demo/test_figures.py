import json
from dataclasses import asdict, replace
from io import StringIO

from rich.console import Console

from hyperrag import Answer, CacheReport, Source
from hyperrag.demo.corpus import Question
from hyperrag.demo.figures import figures, record
from hyperrag.demo.measure import Asked, Reply
from hyperrag.demo.report import print_summary, print_table

SOURCES = tuple(Source(name, 0, 0, 4, "text", 0.5, 0.6, -1.0) for name in ("a", "b", "c", "d"))


def reply(ttft_ms: float, rerank_ms: float, report: CacheReport) -> Reply:
    timings = {"rerank": rerank_ms}
    cache = {"rerank": report, "generate": CacheReport(tokens_reused=10), "total": report}
    return Reply(Answer("i", "It [wraps].", "stop", SOURCES, timings, cache, {}), ttft_ms)


def asked(expected: str, cold_ms: float, warm_ms: float) -> Asked:
    cold = reply(10 * cold_ms, cold_ms, CacheReport(computed=20))
    warm = reply(10 * warm_ms, warm_ms, CacheReport(dram_hits=15, ssd_hits=3, computed=2))
    return Asked(Question("Why [so]?", expected, ()), frozenset({expected}), cold, warm)


def test_speedups_are_medians_of_each_questions_own_ratio() -> None:
    found = figures([asked("a", 100, 10), asked("b", 80, 40), asked("d", 90, 30)])
    assert (found.rerank_speedup, found.ttft_speedup) == (3.0, 3.0)
    assert (found.cold_rerank_ms, found.warm_rerank_ms) == (90, 30)
    assert (found.candidates, found.warm_hit_rate) == (20, 0.9)


def test_only_the_first_three_sources_count() -> None:
    found = figures([asked("c", 2, 1), asked("d", 2, 1)])
    assert (found.num_found, found.num_questions) == (1, 2)


def test_tokens_reused_are_not_counted_twice() -> None:
    warm = reply(1, 1, CacheReport(tokens_reused=5))
    assert warm.tokens_reused == 15


def test_different_answers_are_noticed() -> None:
    one = asked("a", 2, 1)
    other = replace(one.warm, answer=replace(one.warm.answer, answer="Something else."))
    assert figures([one, replace(one, warm=other)]).num_same_answers == 1


def test_the_table_shows_answers_as_they_are() -> None:
    out = StringIO()
    console = Console(file=out, width=200)
    rows = [asked("a", 100, 10)]
    print_table(console, rows)
    print_summary(console, figures(rows), "model [x]")
    for words in ("Why [so]?", "It [wraps].", "1000 / 100", "0% / 90%", "10.0x", "model [x]"):
        assert words in out.getvalue()


def test_the_record_is_json_with_every_reply() -> None:
    rows = [asked("a", 100, 10)]
    document = json.loads(json.dumps(record(rows, figures(rows), {}, {}), default=asdict))
    assert document["figures"]["rerank_speedup"] == 10.0
    assert document["rows"][0]["cold"]["answer"]["cache"]["rerank"]["computed"] == 20
