"""What a wheel or a stranger's package could break without a word."""

from importlib.metadata import packages_distributions

import pytest


@pytest.mark.parametrize("package", ["hyperrag", "cluster", "actors", "kvstore"])
def test_no_other_distribution_owns_our_folders(package: str) -> None:
    owners = packages_distributions().get(package)  # None in an editable install
    assert owners is None or set(owners) == {"hyperrag"}
