"""SBML documents become systems that are solved as others solve them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import roadrunner

import jaxtwin as jt
from jaxtwin.cli import main
from jaxtwin.exchange.errors import ModelFileError, UnsupportedModelError
from jaxtwin.exchange.load import read_equations
from tests.exchange.sbml_documents import MODELS, document

END = 4.0


@pytest.fixture
def load(tmp_path):
    def load(steps=240, **parts):
        path = tmp_path / "small.xml"
        path.write_text(document(**parts))
        return jt.load_model(path, duration=END, steps=steps)

    return load


def declined(tmp_path, **parts):
    path = tmp_path / "small.xml"
    path.write_text(document(**parts))
    with pytest.raises(UnsupportedModelError) as error:
        read_equations(path)
    return str(error.value)


@pytest.mark.parametrize("name", MODELS)
def test_as_another_simulator(name, load):
    system = load(steps=960, **MODELS[name])
    found = jt.record(system, system.parameters()).recording(40).waveforms
    other = roadrunner.RoadRunner(document(**MODELS[name]))
    other.setIntegratorSetting("cvode", "relative_tolerance", 1e-9)
    other.setIntegratorSetting("cvode", "absolute_tolerance", 1e-12)
    shown = [*MODELS[name].get("species", {}), *MODELS[name].get("rates", {})]
    columns = {
        n: f"[{n}]" if n in MODELS[name].get("species", {}) and n != "B" else n for n in shown
    }
    names = list(dict.fromkeys(n for n in shown if n in found._fields))
    assert names
    expected = other.simulate(0, END * 39 / 40, 40, ["time", *(columns[n] for n in names)])
    for i, one in enumerate(names):
        # A sample at which something jumps is before or after it.
        off = np.abs(np.asarray(getattr(found, one)) - expected[:, i + 1])
        scale = 1e-4 * max(np.abs(expected[:, i + 1]).max(), 1e-3)
        assert np.sort(off)[-2] < scale and np.median(off) < scale, (one, off.max())


def test_closed_forms(load):
    system = load(**MODELS["decay"])
    p = system.parameters()
    assert system.states._fields == ("S", "P") and (p.S_0, p.k) == (10.0, 0.3)
    solution = jt.record(system, p)
    np.testing.assert_allclose(solution.outputs.S, 10 * jnp.exp(-0.3 * solution.times), rtol=2e-5)
    np.testing.assert_allclose(solution.outputs.P, 2 * (10 - solution.outputs.S), rtol=1e-6)
    assert jt.read(system, solution, ["S_max"])["S_max"] == 10
    # Of initial values, too.
    slope = jax.grad(lambda p: jt.record(system, p).outputs.S[-1])(p)
    np.testing.assert_allclose(slope.S_0, np.exp(-0.3 * END), rtol=1e-4)
    np.testing.assert_allclose(slope.k, -END * 10 * np.exp(-0.3 * END), rtol=1e-4)


def test_switches_are_discontinuities_with_the_files_parameters(load):
    system = load(**MODELS["infusion"])
    p = system.parameters()
    assert sorted(float(t) for t in system.discontinuities(p)) == [1.0, 2.5]
    later = jt.record(system, type(p)(**{**vars(p), "t_on": 2.0}))
    assert float(later.outputs.given[jnp.searchsorted(later.times, 1.5)]) == 0.0


def test_a_batch_a_box_and_a_fingerprint(load):
    system, again = load(**MODELS["oscillator"]), load(**MODELS["oscillator"])
    other = load(**{**MODELS["oscillator"], "rates": {"X": "X * a", "Y": "-Y"}})
    box = jt.Box.of(system.parameters, {"a": (0.8, 1.4), "X_0": (0.5, 2.0)})
    assert box.names == ("a", "X_0") and box.low == (0.8, 0.5)
    cohort = jt.simulate_cohort(system, box, box.sample(16, seed=0))
    assert cohort.success.all() and set(cohort.read()) >= {"X_max", "Y_mean"}
    # What is conserved along Lotka and Volterra's orbits.
    a = cohort.theta[:, 0]
    w = cohort.recording.waveforms
    V = 0.5 * w.X - 1.3 * np.log(w.X) + 0.7 * w.Y - a[:, None] * np.log(w.Y)
    np.testing.assert_allclose(V, np.repeat(V[:, :1], V.shape[1], 1), rtol=2e-3)
    assert jt.fingerprint(system).key == jt.fingerprint(again).key
    assert jt.fingerprint(system).key != jt.fingerprint(other).key


def test_names_that_python_cannot_have(load):
    system = load(
        parameters={"lambda": 0.5, "_x": 1.0, "count": 2.0}, rates={"_x": "-lambda*count"}
    )
    assert system.states._fields == ("v__x",)
    assert {"v_lambda", "v_count"} <= {one.name for one, _ in system.equations.parameters}


def test_a_periodic_system(tmp_path):
    path = tmp_path / "driven.xml"
    parts = {"parameters": {"x": 0.0, "T": 0.8}, "rates": {"x": "sin(2 * pi * time / T) - x"}}
    path.write_text(document(**parts))
    system = jt.load_model(path, period="T")
    orbit = jt.periodic_orbit(system, system.parameters())
    w = 2 * np.pi / 0.8
    expected = (np.sin(w * orbit.times) - w * np.cos(w * orbit.times)) / (1 + w**2)
    np.testing.assert_allclose(orbit.outputs.x, expected, atol=2e-5)


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        (
            {"parameters": {"x": 1.0}, "rates": {"x": "1"}, "events": {"E": ("x > 2", {"x": "0"})}},
            "event E: its trigger is not time ≥ a constant",
        ),
        (
            {
                "parameters": {"x": 1.0},
                "rates": {"x": "1"},
                "events": {"E": ("time > 2", {"x": "0"})},
            },
            "event E: x is not increased by a constant",
        ),
        ({"parameters": {"x": 1.0, "k": None}, "rates": {"x": "k"}}, "symbol k: has no value"),
        ({"parameters": {"x": 1.0}, "rates": {"x": "delay(x, 1)"}}, "function delay"),
        ({"parameters": {"x": None}, "rates": {"x": "1"}}, "variable x: has no value at t = 0"),
        ({"parameters": {"x": 1.0}, "rates": {"x": "f(x)"}}, "function f: not defined"),
        (
            {
                "parameters": {"x": 1.0, "y": None},
                "rates": {"x": "rateOf(y)"},
                "rules": {"y": "x"},
            },
            "rateOf: is not of a variable",
        ),
    ],
)
def test_what_is_not_supported_is_named(tmp_path, parts, said):
    assert said in declined(tmp_path, **parts)


def test_all_that_is_not_supported_is_named_at_once(tmp_path):
    said = declined(
        tmp_path,
        parameters={"x": 1.0, "k": None},
        rates={"x": "k + delay(x, 1)"},
        events={"E": ("x > 2", {"x": "0"})},
    )
    assert "function delay" in said and "event E" in said


def test_a_circle_of_assignments_is_named(tmp_path):
    path = tmp_path / "circle.xml"
    parts = {"parameters": {"a": None, "b": None}, "rules": {"a": "b + 1", "b": "a"}}
    path.write_text(document(**parts))
    with pytest.raises(ModelFileError, match=r"circle: (a → b → a|b → a → b)"):
        read_equations(path)


def test_how_long_is_said_once(tmp_path):
    path = tmp_path / "small.xml"
    path.write_text(document(**MODELS["decay"]))
    for lengths in ({}, {"duration": 1.0, "period": 1.0}):
        with pytest.raises(ValueError, match="expected one of them"):
            jt.load_model(path, **lengths)
    with pytest.raises(ValueError, match="no parameter 'length'"):
        jt.load_model(path, duration="length")
    with pytest.raises(ValueError, match="positive"):
        jt.load_model(path, duration=-1.0)


def test_files_from_strangers(tmp_path):
    text = document(**MODELS["saturated"])
    entity = '<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/hostname">]>'
    deep = "lambda(x, " + "sin(" * 300 + "x" + ")" * 300 + ")"
    wide = {f"f{i}": f"lambda(x, f{i - 1}(x) + f{i - 1}(x))" for i in range(1, 40)}
    wide = {"f0": "lambda(x, x)"} | wide
    files = {
        "entity.xml": text.replace("?>", f"?>{entity}", 1),
        "deep.xml": document(parameters={"y": 1.0}, functions={"f": deep}, rates={"y": "f(y)"}),
        "wide.xml": document(parameters={"y": 1.0}, functions=wide, rates={"y": "f39(y)"}),
        "empty.xml": "",
        "other.xml": "<html></html>",
        "cut.xml": text[: len(text) // 2],
        "model.txt": text,
    }
    for name, content in files.items():
        (tmp_path / name).write_text(content)
        with pytest.raises(ModelFileError, match=name.split(".")[0]):
            read_equations(tmp_path / name)
    with pytest.raises(ModelFileError, match="no such file"):
        read_equations(tmp_path / "missing.xml")


def test_two_hundred_damaged_files_are_read_or_refused(tmp_path):
    """Bytes changed, removed, repeated and exchanged at random."""
    random = np.random.default_rng(0)
    texts = [document(**parts).encode() for parts in MODELS.values()]
    path, refused = tmp_path / "damaged.xml", 0
    for i in range(200):
        text = bytearray(texts[i % len(texts)])
        for _ in range(random.integers(1, 6)):
            a, b = sorted(random.integers(0, len(text), 2))
            b = min(b, a + 40)
            match random.integers(4):
                case 0:
                    text[a] = random.integers(256)
                case 1:
                    del text[a:b]
                case 2:
                    text[a:a] = text[a:b] * 20
                case _:
                    text[a:b] = bytes(random.permutation(list(text[a:b])).astype(np.uint8))
        path.write_bytes(text)
        try:
            read_equations(path)
        except (ModelFileError, UnsupportedModelError):
            refused += 1
    assert refused > 100


def test_the_command_lists_a_model_or_what_is_not_supported(tmp_path, capsys):
    path = tmp_path / "infusion.xml"
    path.write_text(document(**MODELS["infusion"]))
    with pytest.raises(SystemExit) as end:
        main(["check", str(path)])
    said = capsys.readouterr().out
    assert end.value.code == 0 and "1 states, 6 parameters" in said
    assert "driven, with 2 times at which it switches" in said
    path.write_text(
        document(parameters={"x": 1.0}, rates={"x": "1"}, events={"E": ("x > 2", {"x": "0"})})
    )
    with pytest.raises(SystemExit) as end:
        main(["check", str(path)])
    assert end.value.code == 1 and "event E" in capsys.readouterr().out
