"""What an ingress replica counts: every instrument moves, and none has a label of a client's."""

import pytest

from actors.messages import CacheReport
from cluster.metrics.request import Instruments, merged
from cluster.usage import Usage
from tests.cluster.metrics.series import moved, series_of

ROUTE = 'method="POST",replica="r1",route="/v1/rag/query"'


@pytest.fixture
def instruments() -> Instruments:
    return Instruments("r1", 7)


def test_an_answer_moves_all_that_it_should(instruments: Instruments) -> None:
    before = series_of(instruments.families())
    usage = Usage(
        {"search": 20.0, "rerank": 200.0, "generate": 900.0, "ttft": 400.0, "total": 1120.0},
        {"generate": CacheReport(mode="fusion")},
        prompt_tokens=500,
        completion_tokens=40,
        retried=True,
    )
    instruments.count("POST", "/v1/rag/query", 200, 1.2, usage)
    changes = moved(before, series_of(instruments.families()))
    assert {name: value for name, value in changes.items() if "_bucket" not in name} == {
        f'hyperrag_requests_total{{{ROUTE},status="200"}}': 1,
        f"hyperrag_request_duration_seconds_count{{{ROUTE}}}": 1,
        f"hyperrag_request_duration_seconds_sum{{{ROUTE}}}": 1.2,
        'hyperrag_time_to_first_token_seconds_count{mode="fusion",replica="r1"}': 1,
        'hyperrag_time_to_first_token_seconds_sum{mode="fusion",replica="r1"}': 0.4,
        'hyperrag_stage_duration_seconds_count{replica="r1",stage="search"}': 1,
        'hyperrag_stage_duration_seconds_sum{replica="r1",stage="search"}': 0.02,
        'hyperrag_stage_duration_seconds_count{replica="r1",stage="rerank"}': 1,
        'hyperrag_stage_duration_seconds_sum{replica="r1",stage="rerank"}': 0.2,
        'hyperrag_stage_duration_seconds_count{replica="r1",stage="generate"}': 1,
        'hyperrag_stage_duration_seconds_sum{replica="r1",stage="generate"}': 0.9,
        'hyperrag_tokens_total{kind="prompt",replica="r1"}': 500,
        'hyperrag_tokens_total{kind="completion",replica="r1"}': 40,
        'hyperrag_retries_total{replica="r1"}': 1,
    }
    assert f'hyperrag_request_duration_seconds_bucket{{le="1.0",{ROUTE}}}' not in changes
    assert changes[f'hyperrag_request_duration_seconds_bucket{{le="2.5",{ROUTE}}}'] == 1


def test_a_refusal_is_counted_by_its_queue_and_takes_no_time(instruments: Instruments) -> None:
    before = series_of(instruments.families())
    instruments.count("POST", None, 429, 0.001, Usage(refused_by="ingress"))
    assert moved(before, series_of(instruments.families())) == {
        'hyperrag_requests_total{method="POST",replica="r1",route="none",status="429"}': 1,
        'hyperrag_refusals_total{queue="ingress",replica="r1"}': 1,
    }


def test_a_stream_that_broke_off_is_no_success(instruments: Instruments) -> None:
    before = series_of(instruments.families())
    instruments.count("POST", "/v1/rag/query", 200, 3.0, Usage(broke_off=503))
    changes = moved(before, series_of(instruments.families()))
    assert changes == {f'hyperrag_requests_total{{{ROUTE},status="503"}}': 1}


def test_methods_that_clients_invent_share_a_label(instruments: Instruments) -> None:
    for method in ("BREW", "WHEN"):
        instruments.count(method, None, 405, 0.0, Usage())
    name = 'hyperrag_requests_total{method="other",replica="r1",route="none",status="405"}'
    assert series_of(instruments.families())[name] == 2


def test_requests_in_progress_and_their_limit(instruments: Instruments) -> None:
    with instruments.in_progress.track_inprogress():
        during = series_of(instruments.families())
    assert during['hyperrag_requests_in_progress{replica="r1"}'] == 1
    assert during['hyperrag_requests_limit{replica="r1"}'] == 7
    assert series_of(instruments.families())['hyperrag_requests_in_progress{replica="r1"}'] == 0


def test_replicas_stay_apart_so_that_no_counter_falls_when_one_goes() -> None:
    one, two = Instruments("r1", 7), Instruments("r2", 7)
    for instruments, times in ((one, 3), (two, 2)):
        for _ in range(times):
            instruments.count("GET", "/healthz", 200, 0.0, Usage())
    families = merged([one.families(), two.families()])
    assert len({family.name for family in families}) == len(families)
    both = series_of(families)
    name = 'hyperrag_requests_total{{method="GET",replica="{}",route="/healthz",status="200"}}'
    assert (both[name.format("r1")], both[name.format("r2")]) == (3, 2)
    alone = series_of(merged([two.families()]))
    assert alone == {name: value for name, value in both.items() if 'replica="r2"' in name}
