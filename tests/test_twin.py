"""A twin on disk, and as xarray and pandas take it."""

import json
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray

import jaxtwin as jt
from jaxtwin.analysis.identifiability import Compatible
from jaxtwin.analysis.verdict import Verdict, refuse
from jaxtwin.commands.twin import draw_twin
from jaxtwin.commands.twin_figures import (
    draw_corner,
    draw_echo_twin,
    simulated_volume,
    write_film,
)
from jaxtwin.inference import OpenDirections
from jaxtwin.methods.posterior import Posterior
from jaxtwin.models.left_heart import THREE
from jaxtwin.models.lvad import LVAD
from jaxtwin.parameters import Box
from jaxtwin.training.checkpoint import CheckpointError
from jaxtwin.twin import Twin, describe
from jaxtwin.twin.echo import EchoTwin
from jaxtwin.twin.report import describe_echo_twin, summary_of_echo
from tests.imaging.test_quality import clip, measured
from tests.test_echo_twin import CURVE

HEART = jt.models.LeftHeart()
BOX = Box.of(
    jt.models.LeftHeart.parameters,
    THREE.names,
    dict(zip(THREE.names, zip(THREE.low, THREE.high, strict=True), strict=True)),
    fixed={"R_s": 1.25},
)


@pytest.fixture(scope="module")
def twin():
    theta = np.array([0.8, 130.0, 2.1], np.float32)
    p = BOX.complete(jnp.asarray(theta))
    solution = jax.jit(lambda p: jt.record(HEART, p))(p)
    readings = {name: float(value) for name, value in jt.read(HEART, solution).items()}
    names = (*BOX.names, "P_lv_max")
    compatible = Compatible(
        60,
        65_536,
        {name: (0.1 * i, 1 / 3 + i) for i, name in enumerate(names)},
        {name: 0.2 + i for i, name in enumerate(names)},
        {name: 0.1 for name in names},
        {name: 3.3 for name in names},
    )
    return Twin(
        HEART,
        BOX,
        theta,
        p,
        {"EF": 55.1},
        solution,
        readings,
        compatible,
        Verdict("doubtful", ("the clip is unlike the others",), {"features": 1.25}),
        ("This clip does not resemble the clips the encoder was trained on.",),
    )


def test_the_picture_says_what_the_warning_says(twin):
    said = draw_twin(twin).get_suptitle()
    assert twin.warnings[0] in said.replace("\n", " ") and "JSON" not in said
    both = draw_twin(twin._replace(warnings=("the first", "the second"))).get_suptitle()
    assert both.endswith("WARNING: the first (1 more in the JSON file)")


def test_a_twin_is_printed_in_a_line(twin):
    shown = repr(twin)
    assert shown.startswith("Twin(LeftHeart: T_c = 0.8 s, ") and "EF = " in shown
    assert shown.endswith(f"; warning: {twin.warnings[0]})") and "\n" not in shown


def assert_same(one, other):
    assert eqx.tree_equal((one.theta, one.solution), (other.theta, other.solution))
    assert eqx.tree_equal(one.parameters, other.parameters)
    for name in ("system", "box", "emulated", "readings", "compatible", "verdict"):
        assert getattr(one, name) == getattr(other, name), name
    assert one.warnings == other.warnings


def test_a_loaded_twin_is_the_one_saved(twin, tmp_path):
    twin.save(tmp_path / "twin")
    loaded = jt.load_twin(tmp_path / "twin", jt.models.LeftHeart())
    assert_same(loaded, twin)
    assert describe(loaded) == describe(twin)
    with pytest.raises(AssertionError):
        assert_same(loaded._replace(verdict=refuse("no heart")), twin)


@pytest.mark.slow
def test_a_loaded_twin_is_simulated_further(twin, tmp_path):
    twin.save(tmp_path / "twin")
    loaded = jt.load_twin(str(tmp_path / "twin"), HEART)
    system: Any = loaded.system
    again = jax.jit(lambda p: jt.periodic_orbit(system, p))(loaded.parameters)
    for new, old in zip(
        jax.tree.leaves(again.outputs), jax.tree.leaves(twin.solution.outputs), strict=True
    ):
        # A valve's flow carries the rounding of the pressures, divided by its small resistance.
        np.testing.assert_allclose(new, old, rtol=1e-4, atol=1e-4 * np.abs(old).max())


def test_a_twin_is_loaded_in_its_own_precision(twin, tmp_path):
    twin.save(tmp_path / "twin")
    with jax.enable_x64(False):
        assert_same(jt.load_twin(tmp_path / "twin", HEART), twin)


def test_a_twin_of_another_system_is_refused(twin, tmp_path):
    twin.save(tmp_path / "twin")
    with pytest.raises(CheckpointError, match=r"is of jaxtwin.*LeftHeart, not of LVAD"):
        jt.load_twin(tmp_path / "twin", LVAD(HEART, 9_000.0))
    pumped = twin._replace(system=LVAD(HEART, 9_000.0))
    pumped.save(tmp_path / "pumped")
    with pytest.raises(CheckpointError, match="speed is 9000, not 12000"):
        jt.load_twin(tmp_path / "pumped", LVAD(HEART, 12_000.0))


def test_another_format_or_another_checkpoint_is_refused(twin, tmp_path):
    twin.save(tmp_path / "twin")
    file = tmp_path / "twin" / "config.json"
    config = json.loads(file.read_text())
    file.write_text(json.dumps(config | {"format": "jaxtwin twin 99"}))
    with pytest.raises(CheckpointError, match="format 'jaxtwin twin 99', this version reads"):
        jt.load_twin(tmp_path / "twin", HEART)
    file.write_text(json.dumps(config | {"kind": "emulator"}))
    with pytest.raises(CheckpointError, match="of kind emulator, expected twin"):
        jt.load_twin(tmp_path / "twin", HEART)
    with pytest.raises(CheckpointError, match="no checkpoint"):
        jt.load_twin(tmp_path / "nothing", HEART)


def test_parameters_that_are_not_those_of_theta_are_not_saved(twin, tmp_path):
    treated = eqx.tree_at(lambda p: p.R_s, twin.parameters, 0.9)
    with pytest.raises(ValueError, match=r"R_s of this twin is 0\.9, but 1\.25 by θ and the box"):
        twin._replace(parameters=treated).save(tmp_path / "twin")
    assert not (tmp_path / "twin").exists()


def test_numbers_and_units_are_in_the_file_as_text(twin, tmp_path):
    twin.save(tmp_path / "twin")
    config = json.loads((tmp_path / "twin" / "config.json").read_text())
    assert config["parameters"]["E_max"]["unit"] == "mmHg/mL"
    assert config["simulated"]["EDV"] == {"value": twin.readings["EDV"], "unit": "mL"}
    assert config["warnings"] == list(twin.warnings) and config["box"]["R_s"] == 1.25


def test_a_twins_dataset_has_its_beat_and_what_is_left_open(twin):
    data = twin.to_dataset()
    assert dict(data.sizes) == {"patient": 1, "phase": 240}
    np.testing.assert_array_equal(data.P_lv[0], twin.solution.outputs.P_lv[:-1])
    np.testing.assert_array_equal(data.E_max, twin.theta[2:])
    assert data.EF.item() == twin.readings["EF"] and data.EF_emulated.item() == 55.1
    assert (data.E_max_low.item(), data.E_max_high.item()) == (0.2, 1 / 3 + 2)
    assert data.E_max_median.item() == 2.2 and data.E_max_bits.item() == 3.3
    assert data.E_max_low.attrs["units"] == "mmHg/mL" and data.P_lv_max_narrowing.item() == 0.1
    assert not data.trusted.item()
    assert data.success.item() and data.attrs["warnings"] == list(twin.warnings)
    both = xarray.concat([data, data], "patient")
    assert both.sizes["patient"] == 2 and both.V_lv.attrs["units"] == "mL"


def test_a_twins_frame_is_one_row(twin):
    frame = twin.to_dataframe()
    assert len(frame) == 1 and frame.EF[0] == twin.readings["EF"]
    assert frame.attrs["units"]["EF_emulated"] == "%" and "P_lv" not in frame


def test_what_a_recording_leaves_open_is_told_and_drawn(twin):
    random = np.random.default_rng(0)
    theta = np.asarray(twin.theta) * (1 + 0.1 * random.normal(size=(500, 3)))
    theta[:, 2] = twin.theta[2] * twin.theta[1] / theta[:, 1]
    posterior = Posterior(twin.system, twin.box, theta[None], np.array([True]))
    opened = OpenDirections(("T_c", "V_0", "E_max"), np.array([0.8]), np.array([[0.0, 0.6, 0.8]]))
    found = EchoTwin(
        twin.verdict,
        measured(*clip(0.8)),
        CURVE,
        twin,
        posterior=posterior,
        open_directions=opened,
    )
    told = describe_echo_twin(found)
    (direction,) = told["open_directions"]
    assert direction["spread"] == 0.8 and direction["along"]["E_max"] == 0.8
    (pair,) = told["trade_offs"]
    assert pair["parameters"] == ["V_0", "E_max"] and pair["rank_correlation"] < -0.99
    assert "0.80 along +0.80 E_max +0.60 V_0" in summary_of_echo(found)
    figure = draw_corner(found)
    assert len(figure.axes) == 9 and figure.axes[-1].get_xlabel() == "E_max\n[mmHg/mL]"


def test_a_twin_from_a_clip_is_drawn_beside_what_was_measured(twin, tmp_path):
    curve = simulated_volume(twin, 80)
    measurement = CURVE._replace(volume=curve, error=0.05 * curve)
    found = EchoTwin(twin.verdict, measured(*clip(0.8)), measurement, twin)
    title = draw_echo_twin(found).get_suptitle()
    assert title.startswith("DOUBTFUL: the clip is unlike the others") and "simulated: EF" in title
    # The twin's curve and the measured one, which is the same here, lie on each other.
    volume = np.asarray(twin.solution.outputs.V_lv)
    assert curve.max() == pytest.approx(volume.max(), rel=1e-2)
    assert curve.min() == pytest.approx(volume.min(), rel=1e-2)
    told = describe_echo_twin(found)
    assert told["parameters"]["E_max"]["unit"] == "mmHg/mL" and told["measured"] is not None
    write_film(tmp_path / "film.gif", found)
    assert (tmp_path / "film.gif").stat().st_size > 10_000
