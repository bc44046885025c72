"""Does a system keep its promises? A report for whoever writes a new one.

print(check_system(MySystem()))
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxtwin.parameters import AbstractParameters
from jaxtwin.physics.base import AbstractPeriodicSystem, AbstractRecordedSystem, AbstractSystem
from jaxtwin.physics.solution import Recording

# A vector field whose fastest mode dies out this many times within the time of interest is stiff:
# an explicit solver takes about so many steps for its sake alone.
STIFF = 500.0
# How many states are tried: more than any system here has variables.
STATES = 64
# A quantity whose rate is larger than this share of its terms' is not conserved.
CONSERVED = 1e-6


class Problem(NamedTuple):
    """Something that will not work.

    Attributes:
        what: What came, and what was expected.
        remedy: What to do.
    """

    what: str
    remedy: str


@dataclasses.dataclass(frozen=True)
class Report:
    """What `check_system` found.

    Attributes:
        system: The system's name.
        problems: What is wrong; empty where nothing is.
        facts: What else there is to know, by name.
    """

    system: str
    problems: tuple[Problem, ...]
    facts: dict[str, str]

    def __str__(self) -> str:
        """As text for a terminal."""
        lines = [f"{self.system}: {_count(len(self.problems), 'problem', 'problems')}"]
        lines += [f"  ✗ {problem.what}\n    → {problem.remedy}" for problem in self.problems]
        width = max((len(name) for name in self.facts), default=0)
        lines += [f"  {name:{width}}  {fact}" for name, fact in self.facts.items()]
        return "\n".join(lines)


def check_system(
    system: AbstractSystem, p: AbstractParameters | None = None, *, duration: float | None = None
) -> Report:
    """Try everything that solvers and emulators will ask of a system, at a few states.

    Args:
        system: What to check.
        p: Its parameters; the defaults of `system.parameters` if None.
        duration: Time of interest, in the system's unit of time; by default how long it is
            recorded, where it says so, or 1.
    """
    problems: list[Problem] = []
    facts: dict[str, str] = {}
    name = type(system).__name__
    _check_parameters(system, problems, facts)
    if problems:
        return Report(name, tuple(problems), facts)
    p = system.parameters() if p is None else p
    p = jax.tree.map(lambda leaf: jnp.asarray(leaf, float), p)
    try:
        _check_field(system, p, problems, facts, duration)
    except jax.errors.TracerBoolConversionError as error:
        line = _line_of(error)
        problems.append(
            Problem(
                f"a Python `if`, `and` or `while` looks at a traced value{line}: its outcome "
                "depends on numbers that are not known when the function is compiled",
                "write jnp.where(condition, a, b), or jnp.maximum and jnp.minimum for valves",
            )
        )
    except (jax.errors.ConcretizationTypeError, jax.errors.TracerArrayConversionError) as error:
        problems.append(
            Problem(
                f"a function of math or NumPy is given a traced value{_line_of(error)}",
                "use the function of jax.numpy",
            )
        )
    return Report(name, tuple(problems), facts)


def _check_parameters(
    system: AbstractSystem, problems: list[Problem], facts: dict[str, str]
) -> None:
    try:
        specs = system.parameters.specs()
    except ValueError as error:
        problems.append(Problem(str(error), "declare every field with `parameter(...)`"))
        return
    free = [spec.name for spec in specs.values() if spec.bounds is not None]
    bare = [spec.name for spec in specs.values() if not spec.unit]
    facts["parameters"] = f"{len(specs)}, of which {len(free)} have bounds"
    if bare:
        facts["without a unit"] = ", ".join(bare)
    if not free:
        problems.append(
            Problem(
                "no parameter has bounds: there is nothing that a twin could learn",
                "give bounds to those that differ between patients: parameter(1.0, (0.5, 2.0), …)",
            )
        )


def _check_field(
    system: AbstractSystem,
    p: Any,
    problems: list[Problem],
    facts: dict[str, str],
    duration: float | None,
) -> None:
    state = system.initial_state(p)
    names = _names(state)
    facts["states"] = ", ".join(names)
    if not _scalars("initial_state", state, problems):
        return
    state = jax.tree.map(lambda leaf: jnp.asarray(leaf, float), state)
    t = jnp.zeros((), float)
    rates = jax.eval_shape(system.vector_field, t, state, p)
    if jax.tree.structure(rates) != jax.tree.structure(state):
        problems.append(
            Problem(
                f"vector_field returns {_kind(rates)}, the state is {_kind(state)}",
                "return the rate of change of every state variable, in a tuple of the state's "
                "own type",
            )
        )
        return
    if not _scalars("vector_field", rates, problems):
        return
    outputs = jax.eval_shape(system.outputs, t, state, p)
    if not hasattr(outputs, "_fields"):
        problems.append(
            Problem(
                f"outputs returns {_kind(outputs)}",
                "return a NamedTuple with one entry a quantity that can be observed",
            )
        )
        return
    facts["outputs"] = ", ".join(_names(outputs))
    if not _scalars("outputs", outputs, problems):
        return
    if isinstance(system, AbstractRecordedSystem):
        what = "period" if isinstance(system, AbstractPeriodicSystem) else "duration"
        recorded = float(jnp.asarray(system.duration(p)))
        facts[what] = f"{recorded:g}"
        if not recorded > 0:
            problems.append(
                Problem(
                    f"{what} is {recorded:g}: expected a positive number",
                    f"return the {what} in the system's unit of time; give it bounds above 0",
                )
            )
            return
        duration = recorded if duration is None else duration
        jumps = [float(jnp.asarray(jump)) for jump in system.discontinuities(p)]
        outside = [f"{jump:g}" for jump in jumps if not 0 < jump < recorded]
        if outside:
            problems.append(
                Problem(
                    f"discontinuities at {', '.join(outside)}, outside of the {what} {recorded:g}",
                    f"return only those strictly between 0 and the {what}; that the drive may jump "
                    "where a period ends is taken for granted",
                )
            )
            return
        _check_scaling(system, p, problems)
        facts["readings"] = ", ".join(system.readings()) or "none"
    duration = 1.0 if duration is None else duration
    states, times = _states(state), jnp.linspace(0.0, duration, STATES, endpoint=False)
    _check_numbers(system, p, states, times, problems, facts, duration)
    if isinstance(system, AbstractRecordedSystem) and not problems:
        _check_readings(system, p, states, times, problems)


def _check_readings(
    system: AbstractRecordedSystem, p: Any, states: Any, times: Any, problems: list[Problem]
) -> None:
    """Does every reading give one number for each of two patients?"""
    outputs = jax.vmap(lambda t, state: system.outputs(t, state, p))(times, states)
    waveforms = jax.tree.map(lambda leaf: leaf.reshape(2, -1), outputs)
    extreme = jax.tree.map(lambda leaf: leaf[:, 0], waveforms)
    recording = Recording(extreme, extreme, waveforms, jnp.ones(2) * system.duration(p))
    for name, reading in system.readings().items():
        try:
            shape = jnp.shape(reading.of(recording))
        except Exception as error:  # Whatever a reading does wrong.
            problems.append(
                Problem(
                    f"reading {name!r} fails: {type(error).__name__}: {error}",
                    "write Reading(unit, function of a recording): recording.maximum, .minimum and "
                    f".waveforms have {', '.join(_names(outputs))}",
                )
            )
            continue
        if shape != (2,):
            problems.append(
                Problem(
                    f"reading {name!r} gives shape {shape} for two patients: expected (2,)",
                    "take means over the last axis alone: recording.waveforms.x.mean(-1)",
                )
            )


def _states(state: Any) -> Any:
    """The initial state and others around it, [STATES] on every leaf."""
    random, n = np.random.default_rng(0), STATES - 1
    return jax.tree.map(
        lambda leaf: (
            leaf * jnp.asarray([1.0, *random.uniform(0.5, 1.5, n)])
            + jnp.asarray([0.0, *random.uniform(0.0, 0.1, n)])
        ),
        state,
    )


def _check_numbers(
    system: AbstractSystem,
    p: Any,
    states: Any,
    times: Any,
    problems: list[Problem],
    facts: dict[str, str],
    duration: float,
) -> None:
    def everywhere(function):
        return jax.jit(jax.vmap(lambda t, state: function(t, state, p)))(times, states)

    rates = everywhere(system.vector_field)
    _finite("vector_field", rates, problems)
    _finite("outputs", everywhere(system.outputs), problems)
    by_state = everywhere(jax.jacfwd(system.vector_field, 1))
    by_parameter = everywhere(jax.jacfwd(system.vector_field, 2))
    if any("NaN" in problem.what for problem in problems):
        return
    for what, slopes in (("the state", by_state), ("the parameters", by_parameter)):
        broken = [name for name, leaf in _paths(slopes) if not np.isfinite(np.asarray(leaf)).all()]
        if broken:
            problems.append(
                Problem(
                    f"the derivative of vector_field by {what} is not finite: {broken[0]}",
                    "x**a with a real a and log(x) have none at 0, sqrt(x) an infinite one: keep "
                    "x away from 0 with jnp.maximum(x, 1e-12), or write the power otherwise",
                )
            )
            return
    if isinstance(system, AbstractPeriodicSystem):
        _check_conserved(system, p, states, rates, problems, facts)
    n = len(jax.tree.leaves(states))
    matrices = np.array(jax.tree.leaves(by_state), float).reshape(n, n, -1).transpose(2, 0, 1)
    fastest = float(np.max(-np.linalg.eigvals(matrices).real))
    modes = fastest * duration
    facts["fastest mode"] = f"{1 / fastest:.2g}" if fastest > 0 else "none decays"
    facts["solver"] = (
        f"stiff ({modes:.0f} of its time constants in {duration:g}): jaxtwin's own (the default), "
        "or a stiff Diffrax solver such as Kvaerno5"
        if modes > STIFF
        else "not stiff: any solver, such as Diffrax's Tsit5; jaxtwin's own (the default) does too"
    )


def _check_conserved(
    system: AbstractPeriodicSystem,
    p: Any,
    states: Any,
    rates: Any,
    problems: list[Problem],
    facts: dict[str, str],
) -> None:
    def slopes(state: Any) -> Any:
        return jax.jacfwd(lambda s: system.conserved(s, p))(state)

    found = jax.vmap(slopes)(states)
    facts["conserved"] = _count(len(found), "quantity", "quantities")
    for k, gradient in enumerate(found):
        terms = np.array(jax.tree.leaves(jax.tree.map(lambda g, r: g * r, gradient, rates)))
        drift, size = np.abs(terms.sum(axis=0)), np.abs(terms).sum(axis=0)
        # Of the largest: at rest all terms are rounding.
        if drift.max() > CONSERVED * max(size.max(), 1e-12):
            problems.append(
                Problem(
                    f"conserved quantity {k} changes at a rate of {drift.max():.3g}, where its "
                    f"terms change by up to {size.max():.3g}",
                    "what leaves one compartment must enter another: check signs and compliances "
                    "in vector_field, or take the quantity out of `conserved`",
                )
            )
    _check_nothing_else_is_conserved(rates, len(found), problems)


def _check_nothing_else_is_conserved(rates: Any, declared: int, problems: list[Problem]) -> None:
    """Is another linear combination of the states constant, whatever the state?"""
    names = _names(rates)
    table = np.array(jax.tree.leaves(rates), float)
    size = np.abs(table).max(axis=1)
    size[size == 0] = 1.0
    left, values, _ = np.linalg.svd(table / size[:, None])
    constant = int((values < CONSERVED * values[0]).sum()) if values[0] > 0 else len(values)
    if constant <= declared:
        return
    weights = left[:, -1] / size
    weights = weights / weights[np.argmax(np.abs(weights))]
    terms = [f"{w:.3g} {n}" for w, n in zip(weights, names, strict=True) if abs(w) > 1e-9]
    problems.append(
        Problem(
            f"{_count(constant, 'linear combination', 'linear combinations')} of the states stay "
            f"constant, and `conserved` names {declared}; one is {' + '.join(terms)}",
            "return it, written with the parameters, from `conserved`: without it the periodic "
            "state is not determined",
        )
    )


def _check_scaling(system: AbstractRecordedSystem, p: Any, problems: list[Problem]) -> None:
    _, scale = system.scaling(p)
    bad = [name for name, value in _paths(scale) if not float(value) > 0]
    if bad:
        problems.append(
            Problem(
                f"scaling gives a scale that is not positive for {', '.join(bad)}",
                "return a size that the output usually has; 1.0 is a valid answer",
            )
        )


def _scalars(what: str, values: Any, problems: list[Problem]) -> bool:
    wrong = {name: jnp.shape(leaf) for name, leaf in _paths(values) if jnp.shape(leaf) != ()}
    if wrong:
        problems.append(
            Problem(
                f"{what} gives arrays: "
                + ", ".join(f"{name} of shape {shape}" for name, shape in wrong.items()),
                "every entry is one number of one patient; batches are jax.vmap outside",
            )
        )
    return not wrong


def _finite(what: str, values: Any, problems: list[Problem]) -> None:
    broken = [name for name, leaf in _paths(values) if not np.isfinite(np.asarray(leaf)).all()]
    if broken:
        problems.append(
            Problem(
                f"{what} is NaN or infinite at or near the initial state: {', '.join(broken)}",
                "look for a division by a parameter that is 0, or a logarithm or root of a state "
                "that can be negative",
            )
        )


def _count(n: int, one: str, many: str) -> str:
    return f"{n or 'no'} {one if n == 1 else many}"


def _names(values: Any) -> tuple[str, ...]:
    return tuple(name for name, _ in _paths(values))


def _kind(values: Any) -> str:
    if hasattr(values, "_fields"):
        return f"{type(values).__name__}({', '.join(values._fields)})"
    return f"a {type(values).__name__}"


def _paths(tree: Any) -> list[tuple[str, Any]]:
    return [
        (jax.tree_util.keystr(path).strip("."), leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    ]


def _line_of(error: BaseException) -> str:
    """Where the user's own code looked at a traced value."""
    trace, place = error.__traceback__, ""
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if "site-packages" not in file and file != __file__:
            place = f" ({file.rsplit('/', 1)[-1]}, line {trace.tb_lineno})"
        trace = trace.tb_next
    return place
