"""`setup.sh` on a test host: what it makes, that a second run changes nothing, what it says."""

import subprocess
from subprocess import CalledProcessError

import pytest

from tests.infra.hosts import Host, in_lab, open_lab, why_not
from tests.tracked import ROOT

SETUP = ROOT / "infra" / "ray" / "setup.sh"

pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not())


def main() -> None:
    """Inside a lab."""
    open_lab()
    host = Host("one", 11)
    host.ssh(f"cp {SETUP} ~/hyperrag/ && echo 'keys: []' > ~/hyperrag/keys.yaml")
    assert "0.1.0" in host.ssh("SHM_GIB=3 bash ~/hyperrag/setup.sh")
    assert host.ssh("df --output=size -BG /dev/shm | tail -1").strip() == "3G"
    assert host.ssh("stat -c %a /var/lib/hyperrag/keys.yaml") == "600\n"
    assert "hyperrag/venv/bin/ray" in host.ssh("bash --login -c 'which ray'")
    before = host.ssh("cat ~/.profile; df /dev/shm; ls -A ~/hyperrag /var/lib/hyperrag")
    host.ssh("SHM_GIB=1 bash ~/hyperrag/setup.sh")
    assert host.ssh("cat ~/.profile; df /dev/shm; ls -A ~/hyperrag /var/lib/hyperrag") == before
    host.ssh("rm ~/hyperrag/venv")
    with pytest.raises(CalledProcessError, match="no wheel was copied"):
        host.ssh("bash ~/hyperrag/setup.sh")
    host.ssh("mkdir ~/hyperrag/wheels && touch ~/hyperrag/wheels/a.whl && cp /bin/false /tmp/old")
    with pytest.raises(CalledProcessError, match="set PYTHON to 3.11 or newer"):
        host.ssh("PYTHON=/tmp/old bash ~/hyperrag/setup.sh")


def test_it_makes_a_machine_ready_once() -> None:
    done = subprocess.run(
        in_lab("tests.infra.test_setup"), cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr


if __name__ == "__main__":
    main()
