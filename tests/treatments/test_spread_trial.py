"""Trials and posteriors on many devices and many hosts agree with those on one device."""

from typing import Any

import numpy as np
import pytest
import zarr

from tests.processes import hosts, run


def endpoints(folder):
    group: Any = zarr.open_group(folder / "trial", mode="r")
    assert np.all(group["success"][:] == 1)
    return {name: array[:] for name, array in group["endpoints"].arrays()}


def assert_same(folder, number, alone):
    """But for rounding, as other numbers of patients are other programs."""
    expected = dict(np.load(alone / "0.npz"))
    for i in range(number):
        found = dict(np.load(folder / f"{i}.npz"))
        assert found.keys() == expected.keys()
        for name, values in expected.items():
            # Chains go apart where rounding decides whether a proposal is accepted. Of a patient
            # with another's key or measurement, no draw would be the same.
            same = np.isclose(found[name], values, rtol=1e-3, atol=1e-4, equal_nan=True)
            assert same.mean() >= (0.5 if name == "nuts" else 1.0), name
    for name, values in endpoints(alone).items():
        np.testing.assert_allclose(endpoints(folder)[name], values, rtol=1e-4, err_msg=name)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    folder = tmp_path_factory.mktemp("alone")
    run("spread_trial", folder, [], devices=1)
    return folder


@pytest.mark.slow
def test_eight_devices_and_killed_on_them(tmp_path, alone):
    run("spread_trial", tmp_path, ["--kill"], devices=8, code=-9)
    group: Any = zarr.open_group(tmp_path / "trial", mode="r")
    assert np.sum(group["success"][0] == 1) == 24 and np.sum(group["success"][0] == -1) == 20
    run("spread_trial", tmp_path, [], devices=8)
    assert_same(tmp_path, 1, alone)


@pytest.mark.slow
def test_two_hosts(tmp_path, alone):
    run("spread_trial", tmp_path, *hosts(2), devices=2)
    assert_same(tmp_path, 2, alone)
