"""A prompt follows the replica that has most of its leading passages."""

from cluster.paths import RoutedPaths

ALL = ("a", "b", "c")


def anybody(name: str) -> bool:
    return True


def test_what_is_new_goes_to_the_first_in_order_and_what_follows_it_too() -> None:
    paths = RoutedPaths()
    assert paths.order(["x", "y"], ALL, anybody) == ALL
    assert paths.order(["x", "y", "z"], ("c", "b", "a"), anybody) == ("a", "c", "b")
    assert paths.order(["y"], ("c", "b", "a"), anybody)[0] == "c", "another first passage"


def test_the_longest_path_counts_not_the_latest() -> None:
    paths = RoutedPaths()
    paths.order(["x", "y"], ("b", "a"), anybody)
    paths.order(["x"], ("a", "b"), lambda name: name == "a")  # b was busy
    assert paths.order(["x", "w"], ALL, anybody)[0] == "a"
    assert paths.order(["x", "y", "z"], ALL, anybody)[0] == "b"


def test_who_is_busy_or_gone_is_passed_over_and_the_path_is_where_it_went() -> None:
    paths = RoutedPaths()
    paths.order(["x", "y"], ("b", "a"), anybody)
    assert paths.order(["x", "y"], ("a", "c"), anybody)[0] == "a", "b is gone"
    assert paths.order(["x", "y"], ALL, lambda name: name != "a")[0] == "a", "nobody else has it"
    assert paths.order(["x", "y"], ("c", "a"), lambda name: name != "a")[0] == "c"
    assert paths.order(["x", "y"], ALL, anybody)[0] == "c"


def test_without_replicas_or_passages_there_is_no_choice() -> None:
    paths = RoutedPaths()
    assert paths.order(["x"], (), anybody) == ()
    assert paths.order([], ALL, anybody) == ALL


def test_what_is_remembered_is_bounded_and_the_longest_paths_go_first() -> None:
    paths = RoutedPaths(max_paths=2)
    paths.order(["x", "y", "z"], ("b", "a"), anybody)
    assert paths.order(["x", "q"], ("a", "b"), anybody)[0] == "b", "the shortest is remembered"
    paths.order(["1"], ("a", "b"), anybody)
    paths.order(["2"], ("a", "b"), anybody)
    assert paths.order(["x"], ("a", "b"), anybody)[0] == "a", "forgotten"
