"""The encoders in PyTorch are as large as ours, and are left out where PyTorch is not installed."""

import sys

import pytest

from benchmarks import encoders
from jaxtwin.data.base import ClipFormat

SMALL = {"tubelet": ClipFormat(frames=8, size=32), "conv3d": ClipFormat(frames=32, size=32)}


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(SMALL))
def test_both_have_the_same_parameters(name):
    pytest.importorskip("torch")
    (ours, step), (theirs, other) = (
        make(name, SMALL[name], 2) for make in (encoders.ours, encoders.in_pytorch)
    )
    assert ours == theirs
    step()
    other()


def test_without_pytorch_ours_are_measured(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.setattr(encoders, "ours", lambda *given: (3, lambda: None))
    rows = encoders.speeds(SMALL["tubelet"], 2, 1)
    assert [(row["encoder"], row["library"]) for row in rows] == [
        ("tubelet", "jaxtwin"),
        ("conv3d", "jaxtwin"),
    ]
    assert 'skipped tubelet in PyTorch, not installed: torch (pip install -e ".[bench]")' in (
        capsys.readouterr().out
    )
