import json
from collections import Counter
from pathlib import Path

import pytest

from kvstore.replay.trace import chain, poisson, read_trace, zipf


def test_ragpulse_puts_what_is_new_each_time_last(tmp_path: Path) -> None:
    row = {
        "t": 7,
        "sys_prompt": [{"id": 1, "tokens": 512}, {"id": 2, "tokens": 512}, {"id": 3, "tokens": 40}],
        "passages": [{"id": 9, "tokens": 100}, {"id": 8, "tokens": 50}],
        "history_tokens": 5,
        "web_tokens": 6,
        "user": {"id": 4, "tokens": 7},
    }
    file = tmp_path / "trace.jsonl"
    file.write_text(json.dumps(row | {"t": 9}) + "\n\n" + json.dumps(row) + "\n")
    first, second = read_trace(file)
    assert (first.at, second.at) == (7, 9) and first.path == second.path
    assert [s.layout.num_tokens for s in first.path] == [512, 512, 100, 50]
    assert (first.num_own, first.num_tokens) == (58, 1232)


def test_mooncake_blocks_are_whole_and_the_last_token_is_computed(tmp_path: Path) -> None:
    rows = [
        {"timestamp": 1500, "input_length": 1100, "output_length": 3, "hash_ids": [1, 2, 3]},
        {"timestamp": 2000, "input_length": 1024, "output_length": 3, "hash_ids": [1, 2]},
    ]
    file = tmp_path / "trace.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    first, second = read_trace(file)
    assert (first.at, len(first.path), first.num_own) == (1.5, 2, 76)
    assert (len(second.path), second.num_own) == (1, 512)
    assert second.path == first.path[:1]


@pytest.mark.parametrize("line", ["{", "{}", '{"t": 1}', "[]", '{"hash_ids": 3}'])
def test_a_bad_line_is_named(tmp_path: Path, line: str) -> None:
    file = tmp_path / "trace.jsonl"
    file.write_text("\n" + line)
    with pytest.raises(ValueError, match=r"trace\.jsonl, line 2: neither RAGPulse"):
        read_trace(file)


def test_chains_share_what_they_begin_with() -> None:
    a, b = chain([("s", 1), ("x", 2), ("y", 3)]), chain([("s", 1), ("y", 3)])
    assert a[0] == b[0] and a[2].key != b[1].key, "behind other text it is another segment"
    assert a[2].tag == b[1].tag and a[1].parent == a[0].key.digest


def test_zipf_draws_by_rank_and_drift_deals_anew() -> None:
    still, moving = zipf(1000, 0, num_documents=100), zipf(1000, 0, 100, drift_every=100)
    uses = Counter(spec.tag for request in still for spec in request.path[1:])
    (_, most), (_, second) = uses.most_common(2)
    assert 1.4 < most / second < 2.8
    assert still[:100] == moving[:100] and still != moving
    assert zipf(50, 1) == zipf(50, 1) != zipf(50, 2)


def test_poisson_has_the_rate_and_the_order() -> None:
    requests = zipf(2000, 0)
    arrived = poisson(requests, 5.0, 0)
    assert 2000 / arrived[-1].at == pytest.approx(5.0, rel=0.1)
    assert [r.path for r in arrived] == [r.path for r in requests]
