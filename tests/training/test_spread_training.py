"""Trainings on many devices and many hosts have the numbers of those on one device."""

import numpy as np
import pytest

from tests.processes import hosts, run


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """Losses of an emulator, an encoder, a posterior and a segmentation on one device."""
    ((found,),) = run("spread_training", tmp_path_factory.mktemp("alone"), [], devices=1)
    return found


@pytest.mark.slow
def test_eight_devices_and_killed_on_them(tmp_path, alone):
    run("spread_training", tmp_path, ["--killed-after=6"], devices=8, code=7)
    kept = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert 4 < len(kept) < len(alone)
    # What eight devices began, one ends.
    ((found,),) = run("spread_training", tmp_path, [], devices=1)
    np.testing.assert_allclose(found, alone, rtol=1e-4)


@pytest.mark.slow
def test_two_hosts(tmp_path, alone):
    for (found,) in run("spread_training", tmp_path, *hosts(2), devices=2):
        np.testing.assert_allclose(found, alone, rtol=1e-4)
