"""The kernels are compiled for GPUs that are not here: they fit their memory and registers."""

import importlib.util
import json
import subprocess
import sys
from itertools import product

import pytest

# Loaded without the interpreter; prints a line a case. What a program has on its stack is spilled.
_SCRIPT = """
import json, re, subprocess, sys, tempfile
from triton import compile, knobs
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from actors.engine.cuda.cascade import tile_of
from actors.engine.cuda.kernel import cascade_kernel
from actors.engine.cuda.sparse_kernel import sparse_kernel

TABLES = ("table", "strides", "lengths", "starts", "widths", "positions")
for sparse, capability, dtype, head_dim, rows, capped, windowed, drained in json.loads(sys.argv[1]):
    kernel = sparse_kernel if sparse else cascade_kernel
    names = kernel.arg_names
    tile = tile_of(head_dim, 4 if dtype == "fp32" else 2, rows)
    constants = {"GROUPS": 8, "DH": head_dim, "BLOCK_M": tile.rows, "BLOCK_T": tile.keys,
        "BLOCK_D": tile.dims, "HAS_SOFTCAP": capped, "HAS_WINDOW": windowed,
        "HAS_SINKS": drained}
    kinds = dict.fromkeys(names, "i32") | dict.fromkeys(constants, "constexpr")
    tensors = [n for n in names if n in ("q", "k", "v", "keys", "values", "out", "sinks")]
    kinds |= dict.fromkeys(tensors, "*" + dtype)
    kinds |= dict.fromkeys([n for n in names if n in TABLES], "*i64")
    kinds |= {"scale": "fp32", "softcap": "fp32"}
    aligned = [n for n in names if kinds[n][0] == "*" or n.endswith(("_row", "_head"))]
    attributes = {(names.index(n),): [["tt.divisibility", 16]] for n in aligned}
    built = compile(ASTSource(kernel, kinds, constants, attributes),
        target=GPUTarget("cuda", capability, 32),
        options={"num_warps": tile.warps, "num_stages": tile.stages})
    ptx = built.asm["ptx"]
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(built.asm["cubin"])
        file.flush()
        usage = subprocess.run([knobs.nvidia.cuobjdump.path, "-res-usage", file.name],
            capture_output=True, text=True, check=True)
    stack = int(re.findall(r"STACK:(\\d+)", usage.stdout + usage.stderr)[-1])
    print(json.dumps([capability, dtype, built.metadata.shared, "wgmma.mma_async" in ptx, stack]))
"""
_SHARED_BYTES = {80: 163 * 1024, 90: 227 * 1024}
"""That a block may have, by compute capability."""


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")
@pytest.mark.skipif(sys.platform != "linux", reason="triton brings its compiler on Linux alone")
def test_every_size_fits_the_gpus_it_is_for() -> None:
    sizes = [
        (256, 256, False, False, False),
        (64, 120, True, True, True),
        (128, 128, True, True, True),
    ]
    cases = [
        (sparse, cc, "bf16", *size) for sparse, cc, size in product((False, True), (80, 90), sizes)
    ]
    cases += [(sparse, 90, "fp32", 16, 16, False, False, False) for sparse in (False, True)]
    command = [sys.executable, "-c", _SCRIPT, json.dumps(cases)]
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": ":".join(sys.path)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    built = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(built) == len(cases)
    for capability, dtype, shared_bytes, wgmma, spilled_bytes in built:
        assert shared_bytes <= _SHARED_BYTES[capability]
        assert not spilled_bytes, (capability, dtype, spilled_bytes)
        assert wgmma == (capability == 90 and dtype == "bf16"), "Hopper's own instructions"
