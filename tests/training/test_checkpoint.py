"""Checkpoints: saved arrays are restored, and damaged or other checkpoints are rejected."""

import asyncio
import errno
import gc
import os
import re
import resource
import shutil
import signal
import sys
import threading
import time
import traceback
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxtwin
from jaxtwin.training import checkpoint
from jaxtwin.training.checkpoint import CheckpointError

CONFIG = {"width": 8, "names": ["a", "b"]}
x = jnp.linspace(-1, 1, 3, dtype=jnp.float32)


def network(seed, width=8, depth=2, dtype=jnp.float32):
    return eqx.nn.MLP(3, 2, width, depth, dtype=dtype, key=jax.random.key(seed))


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "model"


@pytest.fixture
def saved(folder):
    checkpoint.save(folder, network(0), CONFIG)
    return folder


def assert_holds(folder, model):
    """The checkpoint is this model, and nothing of a save is left beside it."""
    assert np.array_equal(checkpoint.load(folder, network(9))(x), model(x))
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_a_model_comes_back(saved):
    assert not np.array_equal(network(9)(x), network(0)(x))
    assert_holds(saved, network(0))
    assert checkpoint.exists(saved) and checkpoint.config(saved) == CONFIG


def test_every_kind_of_tree_comes_back(folder):
    tree = {
        "step": jnp.array(7, jnp.int32),
        "pair": (np.array([True, False]), jnp.arange(3.0, dtype=jnp.float64)),
        "a/b.c": [jnp.ones((1, 2), jnp.float32), "text", None, 1.5],
        "clip": np.arange(6, dtype=np.uint8).reshape(1, 2, 3),
    }
    checkpoint.save(folder, tree, {})
    blank = jax.tree.map(lambda a: np.zeros_like(a) if hasattr(a, "dtype") else a, tree)
    loaded = checkpoint.load(folder, blank)
    assert jax.tree.structure(loaded) == jax.tree.structure(tree)
    for a, b in zip(jax.tree.leaves(loaded), jax.tree.leaves(tree), strict=True):
        assert np.array_equal(a, b)
        assert getattr(a, "dtype", None) == getattr(b, "dtype", None)


def test_leaves_that_are_no_arrays_are_those_of_like(saved):
    like = eqx.nn.MLP(3, 2, 8, 2, jnp.tanh, dtype=jnp.float32, key=jax.random.key(9))
    assert checkpoint.load(saved, like).activation is jnp.tanh


@pytest.mark.parametrize(
    ("like", "leaf"),
    [
        (
            network(0, depth=3),
            r"\.layers\[2\]\.bias is float32\[2\], expected float32\[8\]",
        ),
        (
            network(0, depth=1),
            r"\.layers\[1\]\.bias is float32\[8\], expected float32\[2\]",
        ),
        (network(0, width=9), r"\.layers\[0\]\.bias is float32\[8\], expected float32\[9\]"),
        (network(0, dtype=jnp.float64), r"\.layers\[0\]\.bias is float32\[8\], expected float64"),
        ((network(0),), r"\.layers\[0\]\.bias is float32\[8\], expected nothing"),
        ([], r"expected nothing"),
    ],
)
def test_another_configuration_is_refused_by_the_leaf(saved, like, leaf):
    with pytest.raises(CheckpointError, match=r"another configuration: .*" + leaf):
        checkpoint.load(saved, like)


def test_a_missing_checkpoint(folder):
    assert not checkpoint.exists(folder)
    for read in (checkpoint.config, lambda folder: checkpoint.load(folder, network(0))):
        with pytest.raises(CheckpointError, match="no checkpoint at"):
            read(folder)


@pytest.mark.parametrize("damage", [None, "", '{"width": 8, "na', b"\xff\xfe\x00"])
def test_a_broken_description(saved, damage):
    file = saved / "config.json"
    if damage is None:
        file.unlink()
    else:
        file.write_bytes(damage if isinstance(damage, bytes) else damage.encode())
    for read in (checkpoint.config, lambda folder: checkpoint.load(folder, network(0))):
        with pytest.raises(CheckpointError, match="cut short"):
            read(saved)


def test_damaged_arrays_never_load(saved, tmp_path):
    """Each file in turn is cut in half or deleted: an error, or the file was not needed."""
    refused = 0
    files = [file for file in (saved / "arrays").rglob("*") if file.is_file()]
    for file in files:
        for damage in (lambda f: os.truncate(f, f.stat().st_size // 2), Path.unlink):
            copy = tmp_path / "copy"
            shutil.copytree(saved, copy)
            damage(copy / file.relative_to(saved))
            try:
                assert np.array_equal(checkpoint.load(copy, network(9))(x), network(0)(x))
            except CheckpointError as error:
                assert "cut short" in str(error)
                refused += 1
            shutil.rmtree(copy)
    assert refused >= 4


def test_deleted_arrays(saved):
    shutil.rmtree(saved / "arrays")
    with pytest.raises(CheckpointError, match="cut short"):
        checkpoint.load(saved, network(0))


@pytest.mark.parametrize("place", ["arrays", "config"])
@pytest.mark.parametrize(
    ("raised", "seen"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), OSError),
        (ValueError("RESOURCE_EXHAUSTED: No space left on device"), OSError),
        (KeyboardInterrupt(), KeyboardInterrupt),
    ],
)
def test_a_save_that_fails_leaves_what_was_there(saved, monkeypatch, place, raised, seen):
    def fail(*args):
        raise raised

    if place == "config" and isinstance(raised, ValueError):
        pytest.skip("only TensorStore reports a full disk that way")
    target = (checkpoint.ocp.Checkpointer, "save") if place == "arrays" else (Path, "write_text")
    with monkeypatch.context() as patch:
        patch.setattr(*target, fail)
        with pytest.raises(seen):
            checkpoint.save(saved, network(1), {"width": 99})
    assert_holds(saved, network(0))
    assert checkpoint.config(saved) == CONFIG


@pytest.fixture
def small_disk():
    """The real thing, as far as a test can have it: files may not grow beyond 4 kB."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def many(size):
    random = np.random.default_rng(0)
    return {str(i): random.normal(size=size) for i in range(40)}


def test_a_disk_that_takes_no_more(saved, small_disk):
    with pytest.raises(OSError, match=r"cannot write the checkpoint .*File too large"):
        checkpoint.save(saved, many(2500), {})
    assert_holds(saved, network(0))


@pytest.fixture
def left_behind(monkeypatch, caplog):
    """What a test leaves under way: errors that no caller can catch, and threads."""
    uncaught = []
    monkeypatch.setattr(sys, "unraisablehook", lambda event: uncaught.append(event.exc_value))
    monkeypatch.setattr(threading, "excepthook", lambda event: uncaught.append(event.exc_value))
    before = set(threading.enumerate())

    def look():
        gc.collect()
        logged = [record.getMessage() for record in caplog.records if record.name == "asyncio"]
        return uncaught + logged + list(set(threading.enumerate()) - before)

    return look


def test_a_load_that_fails_leaves_nothing_under_way(folder, left_behind):
    checkpoint.save(folder, many(100), {})
    shutil.rmtree(folder / "arrays" / "d")
    for _ in range(20):
        with pytest.raises(CheckpointError, match="cut short"):
            checkpoint.load(folder, many(100))
    assert left_behind() == []


def test_a_save_that_fails_leaves_nothing_under_way(folder, left_behind, small_disk):
    for _ in range(5):
        with pytest.raises(OSError, match="cannot write"):
            checkpoint.save(folder, many(2500), {})
    assert left_behind() == []


def test_an_interrupt_lets_the_write_in_hand_end(saved, left_behind, monkeypatch):
    save, ended = checkpoint.ocp.Checkpointer.save, []

    def interrupted(*args):
        main = threading.main_thread().ident or 0
        for _ in range(1000):
            waits = traceback.extract_stack(sys._current_frames()[main])
            if any(frame.name == "result" for frame in waits):
                break
            time.sleep(0.01)
        signal.pthread_kill(main, signal.SIGINT)
        save(*args)
        ended.append(True)

    # A shell makes a process in the background ignore interrupts.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(checkpoint.ocp.Checkpointer, "save", interrupted)
            with pytest.raises(KeyboardInterrupt):
                checkpoint.save(saved, many(2500), {})
    finally:
        signal.signal(signal.SIGINT, before)
    assert ended and left_behind() == []
    assert_holds(saved, network(0))


def test_a_notebook_has_a_running_loop(folder):
    async def cell():
        checkpoint.save(folder, network(0), CONFIG)
        return checkpoint.load(folder, network(9))

    assert np.array_equal(asyncio.run(cell())(x), network(0)(x))


def test_a_crash_between_the_two_renames(saved, monkeypatch):
    rename, calls = Path.rename, []

    def once(path, target):
        calls.append(path.name)
        if len(calls) > 1:
            raise KeyboardInterrupt
        return rename(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", once)
        with pytest.raises(KeyboardInterrupt):
            checkpoint.save(saved, network(1), {"width": 99})
    assert calls == ["model", "model.partial"] and not saved.exists()
    assert checkpoint.exists(saved) and checkpoint.config(saved) == CONFIG
    assert np.array_equal(checkpoint.load(saved, network(9))(x), network(0)(x))

    # Cut short again, before anything new is in place: the old one is still there.
    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", once)
        with pytest.raises(KeyboardInterrupt):
            checkpoint.save(saved, network(1), {"width": 99})
    assert checkpoint.exists(saved) and checkpoint.config(saved) == CONFIG

    checkpoint.save(saved, network(1), CONFIG)
    assert_holds(saved, network(1))


def test_a_save_replaces_what_was_there(saved):
    leftover = saved.with_name("model.partial")
    leftover.mkdir()
    (leftover / "config.json").write_text("of a run that was killed")
    checkpoint.save(saved, network(1), CONFIG)
    assert_holds(saved, network(1))


def test_no_pickle_anywhere():
    """Loading a pickle runs whatever its author wrote into it."""
    for file in Path(jaxtwin.__file__).parent.rglob("*.py"):
        text = file.read_text()
        for forbidden in (
            "import pickle",
            "allow_pickle=True",
            "cloudpickle",
            "joblib",
            r"\beval\(",
        ):
            assert not re.search(forbidden, text), f"{forbidden} in {file.name}"
