"""CellML documents become systems, with units converted between components."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxtwin as jt
from jaxtwin.exchange.errors import ModelFileError, UnsupportedModelError
from jaxtwin.exchange.expression import Call, Solution, Symbol, evaluate
from jaxtwin.exchange.load import read_equations

UNITS = """
<units name="millivolt"><unit prefix="milli" units="volt"/></units>
<units name="per_second"><unit units="second" exponent="-1"/></units>
<units name="volt_per_second"><unit units="volt"/><unit units="second" exponent="-1"/></units>
"""


def document(*parts, version="1.0", name="small"):
    inside = "\n".join(parts)
    return (
        f'<?xml version="1.0"?><model name="{name}" '
        f'xmlns="http://www.cellml.org/cellml/{version}#" '
        f'xmlns:cellml="http://www.cellml.org/cellml/{version}#" '
        f'xmlns:xlink="http://www.w3.org/1999/xlink">{inside}</model>'
    )


def math(*equations):
    inside = "".join(equations)
    return f'<math xmlns="http://www.w3.org/1998/Math/MathML">{inside}</math>'


def rate(name, right, time="t"):
    left = f"<apply><diff/><bvar><ci>{time}</ci></bvar><ci>{name}</ci></apply>"
    return f"<apply><eq/>{left}{right}</apply>"


def equal(left, right):
    return f"<apply><eq/>{left}{right}</apply>"


def ci(name):
    return f"<ci>{name}</ci>"


def cn(value, units="dimensionless"):
    return f'<cn cellml:units="{units}">{value}</cn>'


def apply(operator, *arguments):
    return f"<apply><{operator}/>{''.join(arguments)}</apply>"


def variable(name, units, initial=None, public=None):
    given = "" if initial is None else f' initial_value="{initial}"'
    given += "" if public is None else f' public_interface="{public}"'
    return f'<variable name="{name}" units="{units}"{given}/>'


CELL = f"""
<component name="cell">
  {variable("t", "second", public="out")}
  {variable("V", "volt", 0.001, "out")}
  {variable("k", "per_second", 2.0)}
  {variable("rest", "volt", public="in")}
  {math(rate("V", apply("times", apply("minus", ci("k")), apply("minus", ci("V"), ci("rest")))))}
</component>"""
ENVIRONMENT = f"""
<component name="environment">
  {variable("rest", "millivolt", 3.0, "out")}
</component>
<connection>
  <map_components component_1="cell" component_2="environment"/>
  <map_variables variable_1="rest" variable_2="rest"/>
</connection>"""


@pytest.fixture
def file(tmp_path):
    def write(*parts, name="small.cellml", **settings):
        path = tmp_path / name
        path.write_text(document(*parts, **settings))
        return path

    return write


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_units_are_converted(file, version):
    path = file(UNITS, CELL, ENVIRONMENT, version=version)
    system = jt.load_model(path, duration=1.0)
    p = system.parameters()
    assert (p.k, p.rest, p.V_0) == (2.0, 3.0, 0.001) and system.time_unit == "s"
    assert {one.name: one.unit for one, _ in system.equations.parameters}["rest"] == "millivolt"
    course = jt.record(system, p)
    # The rest is 3 mV, which the cell sees in volts.
    expected = 0.003 - 0.002 * jnp.exp(-2 * course.times)
    np.testing.assert_allclose(course.outputs.V, expected, rtol=1e-5)


def implicit():
    """dx/dt = −y with y + y³ = x: the derivative of what is solved for is 1/(1 + 3y²)."""
    cubed = apply("power", ci("y"), cn(3))
    return (
        '<component name="main">',
        variable("t", "second"),
        variable("x", "dimensionless", 2.0),
        variable("y", "dimensionless", 0.5),
        variable("one", "per_second", 1.0),
        math(
            rate("x", apply("times", apply("minus", ci("one")), ci("y"))),
            equal(apply("plus", ci("y"), cubed), ci("x")),
        ),
        "</component>",
    )


def test_an_equation_for_an_unknown_is_solved_with_its_derivatives(file):
    system = jt.load_model(file(UNITS, *implicit()), duration=1.0)
    p = system.parameters()
    course = jt.record(system, p)
    y = course.outputs.y
    np.testing.assert_allclose(y + y**3, course.outputs.x, rtol=1e-6)
    # dy/dt (1 + 3y²) = −y, so log y + 3y²/2 + t is constant.
    moving = jnp.log(y) + 1.5 * y**2 + course.times
    np.testing.assert_allclose(moving, moving[0], rtol=1e-5)
    slope = jax.grad(lambda x: system.outputs(0.0, system.states(x), p).y)(2.0)
    np.testing.assert_allclose(slope, 1 / (1 + 3 * 1.0**2), rtol=1e-6)


@pytest.mark.parametrize("power", [2.0, 3.0])
def test_an_equation_without_a_solution_gives_no_number(power):
    """x² + 5 = 0 has none; x³ + 5 = 0 has one, far from where the search begins."""
    residual = Call("plus", (Call("power", (Symbol("x"), power)), 5.0))
    found = evaluate(Solution("x", residual, 1.0), {}, 0.0)
    np.testing.assert_allclose(found, np.nan if power == 2 else -np.cbrt(5.0), rtol=1e-6)


def test_a_closed_loop_conserves_its_volume(file):
    """Two compartments in a circle, one of which is driven: found without being declared."""
    flow = apply("times", ci("k"), apply("minus", ci("V_1"), ci("V_2")))
    drive = apply("sin", apply("times", cn(8.0, "per_second"), ci("t")))
    pulse = apply("times", ci("k"), drive)
    path = file(
        UNITS,
        '<component name="main">',
        variable("t", "second"),
        *(variable(f"V_{i}", "dimensionless", i) for i in (1, 2)),
        variable("k", "per_second", 1.5),
        math(
            rate("V_1", apply("minus", pulse, flow)),
            rate("V_2", apply("minus", flow, pulse)),
        ),
        "</component>",
    )
    system = jt.load_model(path, period=2 * np.pi / 8)
    p = system.parameters()
    assert system.constants_of_motion == ((1.0, 1.0),)
    orbit = jt.periodic_orbit(system, p)
    np.testing.assert_allclose(orbit.outputs.V_1 + orbit.outputs.V_2, 3.0, rtol=1e-6)
    # d(V_1 − V_2)/dt = 2k sin(8t) − 2k (V_1 − V_2)
    t, k = orbit.times, 3.0
    expected = k * (k * jnp.sin(8 * t) - 8 * jnp.cos(8 * t)) / (k**2 + 64)
    np.testing.assert_allclose(orbit.outputs.V_1 - orbit.outputs.V_2, expected, atol=2e-4)


def importing(url):
    return f"""
    <import xlink:href="{url}"><component name="cell" component_ref="cell"/></import>
    {UNITS}{ENVIRONMENT}"""


def test_imports_lie_beside_the_file(file, tmp_path):
    file(UNITS, CELL, name="cell.cellml", version="1.1")
    path = file(importing("cell.cellml"), version="1.1")
    assert [one.name for one in read_equations(path).states] == ["V"]
    inside = tmp_path / "deeper"
    inside.mkdir()
    (inside / "main.cellml").write_text(document(importing("../cell.cellml"), version="1.1"))
    with pytest.raises(ModelFileError, match="all beside it"):
        read_equations(inside / "main.cellml")
    for url in ("missing.cellml", "http://example.org/cell.cellml", "/etc/hostname"):
        with pytest.raises(ModelFileError, match="all beside it"):
            read_equations(file(importing(url), version="1.1"))


def test_what_is_not_supported_is_named(file):
    both = equal(apply("plus", ci("y"), ci("z")), ci("x"))
    other = equal(apply("minus", ci("y"), apply("times", ci("z"), ci("z"))), cn(0))
    path = file(
        UNITS,
        '<component name="main">',
        variable("t", "second"),
        variable("x", "dimensionless", 2.0),
        *(variable(name, "dimensionless", 1.0) for name in ("y", "z")),
        variable("one", "per_second", 1.0),
        math(rate("x", apply("times", ci("one"), ci("y"))), both, other),
        "</component>",
    )
    with pytest.raises(UnsupportedModelError, match="2 equations that need each other"):
        read_equations(path)
    unsolved = file(
        UNITS,
        '<component name="main">',
        variable("t", "second"),
        variable("x", "dimensionless"),
        math(rate("x", cn(1.0, "per_second"))),
        "</component>",
    )
    with pytest.raises(UnsupportedModelError, match="x"):
        read_equations(unsolved)


def test_two_hundred_damaged_files_are_read_or_refused(tmp_path):
    random = np.random.default_rng(1)
    text = document(UNITS, CELL, ENVIRONMENT).encode()
    path, refused = tmp_path / "damaged.cellml", 0
    for _ in range(200):
        changed = bytearray(text)
        for _ in range(random.integers(1, 5)):
            a, b = sorted(random.integers(0, len(changed), 2))
            b = min(b, a + 30)
            if random.integers(2):
                changed[a] = random.integers(32, 127)
            else:
                del changed[a:b]
        path.write_bytes(changed)
        try:
            read_equations(path)
        except (ModelFileError, UnsupportedModelError):
            refused += 1
    assert refused > 100
