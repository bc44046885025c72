"""The table of a GPU: a part that fails or is late leaves the rows of the others."""

import json
import subprocess
import sys
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import pytest

from benchmarks.accelerator import processes
from benchmarks.accelerator.parts import GRADIENT_WORK, PARTS, row
from benchmarks.accelerator.processes import HEADER, Arguments, run, table
from jaxtwin.data.base import ClipFormat
from jaxtwin.encoders.create import create_encoder
from jaxtwin.training.precision import computing_in

ROOT = Path(__file__).parents[2]


def pretend(monkeypatch, program):
    """Let every part's process run a program instead; its folder is the last argument."""
    run_it = subprocess.run

    def instead(command, **options):
        folder = command[command.index("--out") + 1]
        return run_it([sys.executable, "-c", program, folder], **options)

    monkeypatch.setattr(processes.subprocess, "run", instead)


ONE_ROW = """
import json, pathlib, sys, time
file = pathlib.Path(sys.argv[1]) / "forward.jsonl"
file.write_text(json.dumps({"part": "forward", "what": "states", "size": 7}) + "\\n" + '{"par')
"""


@pytest.mark.parametrize(
    ("then", "limit", "said"),
    [
        ("", 60, ""),
        ("raise MemoryError('out of memory')", 60, "ended with 1: MemoryError: out of memory"),
        ("time.sleep(60)", 3, "stopped after 3 s"),
    ],
    ids=["done", "failed", "late"],
)
def test_what_was_measured_stays(monkeypatch, tmp_path, then, limit, said):
    pretend(monkeypatch, ONE_ROW + then)
    rows, wrong = run("forward", tmp_path, True, limit)
    assert [row["size"] for row in rows] == [7] and wrong == said


def test_no_time_left(tmp_path):
    assert run("forward", tmp_path, True, -1.0) == ([], "no time was left")


def test_all_parts_are_told(monkeypatch, tmp_path, capsys):
    def measured(part, folder, quick, limit):
        assert 0 < limit <= PARTS[part][1]
        if part == "gradient":
            return [], "ended with 1: no memory"
        return [{"part": part, **row("states", 65_536, 5.0123456e6, "state")}], ""

    monkeypatch.setattr(processes, "run", measured)
    with pytest.raises(SystemExit):
        processes.main(Arguments(out=tmp_path))
    told = json.loads((tmp_path / "rows.json").read_text())
    assert {row["part"] for row in told["rows"]} == set(PARTS) - {"gradient"}
    assert told["notes"] == ["gradient: ended with 1: no memory; see gradient.log"]
    assert "cores" in told["machine"] and told["versions"]["jax"]
    text = (tmp_path / "table.md").read_text()
    assert text in capsys.readouterr().out
    assert "| forward | states | 65,536 | 5,012,000 | state | – | – |" in text
    assert all(name in text for name in HEADER)


def test_shares_and_ceilings_are_shown():
    rows = [
        {"part": "ceilings", **row("product", "8 × 8", 6.7e14, "FLOP")},
        {"part": "encoder", **row("step", 16, 1e4, "clip", share_of_peak=0.123)},
    ]
    text = table(rows, [], "a GPU")
    assert "| 6.7e+14 | FLOP |" in text and "| 12% |" in text


@pytest.mark.parametrize(
    ("name", "precision"),
    [("tubelet", "float32"), pytest.param("conv3d", "bfloat16", marks=pytest.mark.slow)],
)
def test_operations_are_those_that_xla_counts(name, precision):
    """In bfloat16, conv3d has XLA's own 3D convolutions on a CPU, too."""
    format = ClipFormat()
    encoder = create_encoder(name, format, 3, key=jax.random.key(0))
    arrays, rest = eqx.partition(encoder, eqx.is_inexact_array)

    def loss(arrays, clip):
        encoder = computing_in(precision, eqx.combine(arrays, rest), lambda encoder: encoder.head)
        return jnp.mean(encoder(clip) ** 2)

    clip = jax.ShapeDtypeStruct((format.frames, format.size, format.size), jnp.uint8)
    gradient = jax.jit(jax.grad(loss))
    with jax.enable_x64(False):
        counted = gradient.lower(arrays, clip).cost_analysis()["flops"]
    assert counted == pytest.approx(GRADIENT_WORK[name], rel=0.02)


def test_unknown_parts():
    with pytest.raises(ValueError, match=r"no parts {'nonsense'}: expected some of ceilings"):
        Arguments(parts=("nonsense",))


@pytest.mark.slow
def test_the_script_runs_here(tmp_path):
    """Parts whose functions other tests do not run; all of them take minutes."""
    parts = ["ceilings", "segmentation", "emulator", "encoder"]
    command = ["bash", str(ROOT / "benchmarks/gpu.sh"), "--quick", "--out", str(tmp_path)]
    command += ["--patience", "9", "--minutes", "60", "--parts", *parts]
    environment = {"PYTHON": sys.executable, "PATH": "/usr/bin:/bin"}
    environment["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"  # It compiles for longer than it measures.
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = json.loads((tmp_path / "rows.json").read_text())["rows"]
    assert {row["part"] for row in rows} == set(parts)
    assert all(row["per_second"] > 0 for row in rows)
    assert all(0 < row["share_of_peak"] < 2 for row in rows if row["part"] == "encoder")
