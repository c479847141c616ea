from cluster.remote_store import summed
from kvstore.types import CheckReport


def test_reports_of_all_nodes_are_one() -> None:
    sound = CheckReport(3, 300, (), 1)
    damaged = CheckReport(2, 200, ("dram: damage",), 0)
    report = summed({"a": sound, "b": damaged, "c": TimeoutError("no answer")})
    assert report["segments_checked"] == 5 and report["repaired"] == 1
    assert report["problems"] == ["b: dram: damage", "c: no answer"] and not report["ok"]
    assert summed({"a": sound})["ok"]


def test_what_was_not_looked_at_is_not_known_to_be_sound() -> None:
    report = summed({"a": CheckReport(3, 300, (), 0, ("ssd: left alone",))})
    assert report["unchecked"] == ["a: ssd: left alone"] and not report["ok"]
