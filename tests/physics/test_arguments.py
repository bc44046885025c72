"""What is no system, or not its parameters, is named before anything is computed."""

import jax
import jax.numpy as jnp
import pytest

from jaxtwin.parameters import AbstractParameters, Scalar, parameter
from jaxtwin.physics.base import check_channels, read
from jaxtwin.physics.check import check_system
from jaxtwin.physics.periodic import periodic_orbit
from jaxtwin.physics.record import record
from jaxtwin.physics.solve import simulate
from tests.physics.oscillator import Named, Oscillator, Swing, SwingParameters


class Unbounded(AbstractParameters):
    k: Scalar = parameter(4.0, None, "1/s²")


@pytest.mark.parametrize("run", [check_system, periodic_orbit, record])
@pytest.mark.parametrize(
    ("args", "message"),
    [
        ((Oscillator, SwingParameters()), r"the class Oscillator: .* write Oscillator\(\)"),
        ((SwingParameters(), Oscillator()), "of type SwingParameters: expected an instance of a s"),
        (
            (Oscillator(), SwingParameters),
            r"p is the class Swing.* system.parameters\(k=..., ...\)",
        ),
        ((Oscillator(), {"k": 1.0}), "p is of type dict: .* instance of SwingParameters"),
        ((Oscillator(), Unbounded()), "p is of type Unbounded: .* instance of SwingParameters"),
    ],
)
def test_what_is_no_system_or_no_parameters_is_said(run, args, message, as_a_user):
    with pytest.raises(ValueError, match=message):
        run(*args)


def test_what_cannot_be_read_is_said(as_a_user):
    orbit = periodic_orbit(Oscillator(), SwingParameters())
    for args, message in (
        ((orbit, Oscillator()), "system is of type Solution: expected an instance of a system"),
        ((Oscillator(), SwingParameters()), "beat is of type SwingParameters: expected a Solution"),
    ):
        with pytest.raises(ValueError, match=message):
            read(*args)
    with pytest.raises(ValueError, match=r"write Oscillator\(\)"):
        check_channels(Oscillator, "x")  # pyright: ignore[reportArgumentType]


def test_values_that_are_not_one_patients_are_named(as_a_user):
    for run in (periodic_orbit, record, lambda s, p: simulate(s, p, jnp.ones(1))):
        with pytest.raises(ValueError, match="k of SwingParameters is None: expected a number"):
            run(Oscillator(), SwingParameters(k=None))
        with pytest.raises(ValueError, match=r"k of Swing.* shape \(2,\): .* apply jax.vmap"):
            run(Oscillator(), SwingParameters(k=jnp.array([1.0, 2.0])))


def test_values_far_beyond_their_declared_bounds_are_named():
    beyond = r"parameters of SwingParameters far .*: k = 90 1/s², bounds 1 to 9; t_s = 7 s"
    with pytest.warns(UserWarning, match=beyond) as caught:
        record(Oscillator(), SwingParameters(k=90.0, t_s=7.0))
    assert len(caught) == 1
    record(Oscillator(), SwingParameters(k=88.0, t_s=0.2))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_known_values_are_checked_inside_jit(dtype):
    """A constant of a jitted function is known while it is traced, though its comparison is not."""

    def highest(k):
        p = SwingParameters(k=jnp.asarray(k, dtype))
        return jax.jit(lambda s: s * record(Oscillator(), p).recording().maximum.x)

    highest(4.0)(1.0)
    with pytest.warns(UserWarning, match="k = 90 1/s², bounds 1 to 9"):
        highest(90.0)(1.0)


class MoreParameters(SwingParameters):
    m: Scalar = parameter(1.0, None, "kg")


class Alike(AbstractParameters):
    """Those of a swing, declared once more."""

    k: Scalar = parameter(4.0)
    T: Scalar = parameter(2.0)
    t_s: Scalar = parameter(0.7)


@pytest.mark.parametrize("kind", [MoreParameters, Alike])
def test_parameters_of_another_class_with_the_same_names_will_do(kind):
    run = jax.jit(jax.vmap(lambda k: periodic_orbit(Oscillator(), kind(k=k)).success))
    assert run(jnp.array([3.0, 4.0])).all()


@pytest.mark.parametrize("run", [periodic_orbit, record, lambda s, p: simulate(s, p, jnp.ones(1))])
def test_a_solver_says_what_a_vector_field_lacks(run):
    for field in (lambda t, s, p: Named(s.v), lambda t, s, p: Swing(jnp.ones(3) * s.v, s.x)):
        with pytest.raises(ValueError, match="expected the rate of change of every state"):
            run(Oscillator(field=field), SwingParameters())
