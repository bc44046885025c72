"""`learn_emulator` keeps what it learnt, and what that was learnt with."""

import json
import shutil

import jax.numpy as jnp
import pytest

from jaxtwin.forward.emulator import load_emulator
from jaxtwin.forward.learning import learn_emulator
from jaxtwin.parameters import Box
from jaxtwin.training.loop import TrainingConfig
from tests.forward.test_emulator import assert_equal
from tests.systems import Windkessel


@pytest.fixture(scope="module")
def learnt(tmp_path_factory):
    folder = tmp_path_factory.mktemp("learnt")
    box = Box.of(Windkessel.parameters, ("R", "C"))
    training = TrainingConfig(4, 8, evaluate_every=2)
    arguments = {"phases": 24, "simulations": 16, "unseen": 4, "training": training, "seed": 0}
    _, errors = learn_emulator(folder, Windkessel(), box, "P", **arguments)
    return folder, box, arguments, errors


def test_the_folder_of_learning_is_loaded(learnt):
    folder, _, _, _ = learnt
    theta = jnp.array([1.0, 1.0])
    here, there = (load_emulator(f, Windkessel()) for f in (folder, folder / "emulator"))
    assert_equal(here(theta), there(theta))


def test_the_same_arguments_load_what_was_learnt(learnt):
    folder, box, arguments, errors = learnt
    emulator, again = learn_emulator(folder, Windkessel(), box, "P", **arguments)
    assert again == errors and emulator.error is not None
    assert errors["simulations"] == 16 + 2 + 4


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"simulations": 32}, "simulations is 16, not 32"),
        ({"unseen": 8}, "unseen is 4, not 8"),
        ({"seed": 1}, "seed is 0, not 1"),
        ({"training": TrainingConfig(9, 8, evaluate_every=2)}, "training.steps is 4, not 9"),
        ({"phases": 12}, "phases is 24, not 12"),
    ],
)
def test_other_arguments_do_not_load_it(learnt, change, words):
    folder, box, arguments, _ = learnt
    with pytest.raises(ValueError, match=f"{words}; choose another folder, or delete it"):
        learn_emulator(folder, Windkessel(), box, "P", **(arguments | change))


def test_an_emulator_of_unknown_settings_is_not_loaded(learnt, tmp_path):
    """It was learnt by a version that did not keep them."""
    folder, box, arguments, _ = learnt
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    config = tmp_path / "emulator" / "config.json"
    kept = json.loads(config.read_text())
    del kept["learnt"]
    config.write_text(json.dumps(kept))
    with pytest.raises(ValueError, match="simulations is missing, not 16"):
        learn_emulator(tmp_path, Windkessel(), box, "P", **arguments)
