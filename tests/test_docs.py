"""What the documents promise is there."""

import re

from tests.tracked import ROOT, tracked

README = ROOT / "README.md"
TEXT = {".md", ".py", ".toml", ".txt", ".yaml", ".yml", ".json", ".sh", ""}
MACHINE_PATHS = re.compile(r"(?<![\w.$~}])/(?:home|work|root|Users)/\w")


def _make_targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def test_every_make_command_of_the_readme_exists() -> None:
    named = set(re.findall(r"make ([a-z-]+)", README.read_text("utf-8")))
    assert named and named <= _make_targets()


def test_every_target_of_the_makefile_is_phony_and_explained() -> None:
    makefile = (ROOT / "Makefile").read_text()
    phony = set(re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)[1].split())  # type: ignore[index]
    assert phony == _make_targets()
    helped = set(re.findall(r'@echo "make ([a-z-]+)', makefile))
    assert helped == phony - {"help", "env"}


def test_every_hyperrag_command_of_the_readme_exists() -> None:
    from tests.hyperrag.test_cli import OPTIONS

    named = set(
        re.findall(r"^\s*(?:\S*/)?hyperrag ([a-z-]+)", README.read_text("utf-8"), re.MULTILINE)
    )
    assert named and named <= {path.split()[0] for path in OPTIONS if path}


def test_the_readme_fits_its_budget_and_names_real_folders() -> None:
    text = README.read_text("utf-8")
    assert len(text.splitlines()) < 150
    folders = re.findall(r"^\| `([a-z/]+)/` \|", text, re.MULTILINE)
    assert folders and all((ROOT / folder).is_dir() for folder in folders)


def test_no_file_holds_a_path_of_somebodys_machine() -> None:
    files = [path for path in tracked() if path.suffix in TEXT]
    found = [p.relative_to(ROOT) for p in files if MACHINE_PATHS.search(p.read_text("utf-8"))]
    assert not found
