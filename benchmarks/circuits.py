"""A published circuit of svZeroDSolver, solved by its own solver and by jaxtwin at equal error.

    python -m pip install svzerod && python -m benchmarks.circuits    # a few minutes
    python -m benchmarks.circuits --json FILE                         # also write the rows

The circuit is svZeroDSolver's test case `closed_loop_two_hill` (github.com/SimVascular/
svZeroDSolver, BSD 3-clause): the closed loop of four chambers, four vessels and four valves of
Regazzoni et al., Journal of Computational Physics 457, 2022, with double-Hill activations. Its
figures and equations are repeated here; the patients differ by up to 20% in seven of the figures.

Two tasks, whose answers are the extremes of the chambers' volumes and the arteries' and ventricles'
pressures over one beat: `third`, the third beat from the published initial state, as in the test
case; `settled`, the beat that repeats itself. Both solvers go through a ladder of step sizes (and
svZeroDSolver, which has no periodic solver, of numbers of beats). Errors, in percent of each
extreme, are the largest of all extremes and of the first patients, against SciPy's Radau at 1e-9.
The last table picks the fastest row of each solver within a given error. svZeroDSolver computes in
float64, one patient after another on one core; its circuit is built once and its parameters then
updated, since building it takes another 12 ms. Batches of jaxtwin use all cores, a batch of one
hardly more than one.
"""

import dataclasses
import itertools
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import tyro

from benchmarks.rivals import Missing
from jaxtwin.cohorts.batching import default_chunk, map_patients
from jaxtwin.commands.run import origin
from jaxtwin.models.elastance import hill_activation, phase_of
from jaxtwin.models.valves import leaky_valve
from jaxtwin.parameters import AbstractParameters, Box, Scalar, parameter
from jaxtwin.physics.base import AbstractPeriodicSystem
from jaxtwin.physics.iteration import BeatIteration, NewtonIteration
from jaxtwin.physics.periodic import periodic_orbit

Task = Literal["third", "settled"]

PERIOD = 0.689655
VENTRICLES = (0.207, 0.18551724137931036, 1.32, 0.31172413793103454, 27.4)
ATRIA = (0.025, 0.07586206896551724, 1.32, 0.12413793103448276, 13.1)
"""Shift [s]; half time [s] and exponent of rise and of fall."""
OPEN, CLOSED = 6.666e5, 6.666e9
"""Resistances of a valve [Pa·s/m³]."""
CHAMBERS = {
    "LA": (2.666e7, 2.0449931e7, 4.0e-6),
    "LV": (3.33878537e8, 1.2605372e7, 1.9763060505362944e-6),
    "RA": (7.999343e6, 4.932281e6, 4.0e-6),
    "RV": (6.5719659e7, 5.406837e6, 5.431634509432495e-5),
}
"""Active and passive elastance [Pa/m³] and unstressed volume [m³]."""
VESSELS = {
    "AR_SYS": (9.0219259e7, 6.93626e-9, 6.66611e5),
    "VEN_SYS": (8.506913e6, 4.5004e-7, 6.66611e4),
    "AR_PUL": (4.266316e6, 7.5006e-8, 6.66611e4),
    "VEN_PUL": (4.666283e6, 1.2001e-7, 6.66611e4),
}
"""Resistance [Pa·s/m³], compliance [m³/Pa] and inertance [Pa·s²/m³]."""
VALVES = {
    "MV": ("LA", "LV"),
    "AV": ("LV", "AR_SYS"),
    "TV": ("RA", "RV"),
    "PV": ("RV", "AR_PUL"),
}
"""Blocks upstream and downstream."""
LOOP = (
    *("LA", "MV", "LV", "AV", "AR_SYS", "J0", "VEN_SYS", "J1"),
    *("RA", "TV", "RV", "PV", "AR_PUL", "J2", "VEN_PUL", "J3", "LA"),
)
VOLUMES = {
    "LA": 5.624441188959639e-5,
    "LV": 8.142759737438905e-5,
    "RA": 8.913584459023032e-5,
    "RV": 1.1868964658139649e-4,
}
"""Volumes of the chambers at the start [m³], including the unstressed ones."""
PRESSURES = {
    "AR_SYS": 9926.03115972516,
    "VEN_SYS": 1358.6946929956583,
    "AR_PUL": 2075.062641303878,
    "VEN_PUL": 1744.2583185734634,
}
"""Pressures at the inlets of the vessels at the start [Pa]."""
FLOWS = {
    "AR_SYS": 9.612211741415929e-5,
    "VEN_SYS": 1.1034140583655498e-4,
    "AR_PUL": 7.93375172471186e-5,
    "VEN_PUL": 4.621258343525287e-5,
}
"""Flows out of the vessels at the start [m³/s]."""

_PASCAL = 1 / 133.322
"""One pascal [mmHg]."""
_R = 1e-6 * _PASCAL
"""One Pa·s/m³ [mmHg·s/mL]; the same for elastances and inertances."""
VARIED = {
    "E_lv": ("LV", 0),
    "E_min_lv": ("LV", 1),
    "E_rv": ("RV", 0),
    "R_s": ("AR_SYS", 0),
    "C_sa": ("AR_SYS", 1),
    "R_p": ("AR_PUL", 0),
    "C_pa": ("AR_PUL", 1),
}
"""Block of each parameter in which patients differ, and its place in the block's figures."""


def _varied(name: str, unit: str, meaning: str) -> Any:
    block, place = VARIED[name]
    value = {**CHAMBERS, **VESSELS}[block][place] * _unit(name)
    return parameter(value, (0.8 * value, 1.2 * value), unit, meaning, source="svZeroDSolver")


def _unit(name: str) -> float:
    """Return what converts the SI unit of a parameter into mL, mmHg and s."""
    return 1 / _R if name.startswith("C") else _R


class LoopParameters(AbstractParameters):
    """Those figures of the circuit in which patients differ; the others are constants."""

    E_lv: Scalar = _varied("E_lv", "mmHg/mL", "LV, active elastance")
    E_min_lv: Scalar = _varied("E_min_lv", "mmHg/mL", "LV, passive elastance")
    E_rv: Scalar = _varied("E_rv", "mmHg/mL", "RV, active elastance")
    R_s: Scalar = _varied("R_s", "mmHg·s/mL", "resistance of the systemic arteries")
    C_sa: Scalar = _varied("C_sa", "mL/mmHg", "compliance of the systemic arteries")
    R_p: Scalar = _varied("R_p", "mmHg·s/mL", "resistance of the pulmonary arteries")
    C_pa: Scalar = _varied("C_pa", "mL/mmHg", "compliance of the pulmonary arteries")


class LoopState(NamedTuple):
    """Volumes [mL], pressures at the vessels' inlets [mmHg] and flows at their outlets [mL/s]."""

    V_la: Scalar
    V_lv: Scalar
    V_ra: Scalar
    V_rv: Scalar
    P_sa: Scalar
    P_sv: Scalar
    P_pa: Scalar
    P_pv: Scalar
    q_sa: Scalar
    q_sv: Scalar
    q_pa: Scalar
    q_pv: Scalar


class LoopOutputs(NamedTuple):
    """What both solvers are compared by."""

    V_la: Scalar
    V_lv: Scalar
    V_ra: Scalar
    V_rv: Scalar
    P_lv: Scalar
    P_rv: Scalar
    P_sa: Scalar
    P_pa: Scalar


class TwoHillLoop(AbstractPeriodicSystem[LoopState, LoopParameters, LoopOutputs]):
    """The circuit `closed_loop_two_hill`: 12 states, of which four are flows with inertance.

    A chamber has P = E(t) (V − V_d) with E = E_min + E_active φ(t), a vessel C dP/dt = q_in − q and
    L dq/dt = P − R q − P_out, and a valve the resistance `OPEN` or `CLOSED`.
    """

    parameters: ClassVar = LoopParameters
    steps: ClassVar = 480

    def _chambers(self, t: Scalar, y: LoopState, p: LoopParameters) -> tuple[Scalar, ...]:
        """Return the pressures of LA, LV, RA and RV."""

        def phi(shift: float, *shape: float) -> Scalar:
            return hill_activation(phase_of(t - shift, self.period(p)), *shape)

        atria, ventricles = phi(*ATRIA), phi(*VENTRICLES)
        (a_la, e_la, d_la), (_, _, d_lv), (a_ra, e_ra, d_ra), (_, e_rv, d_rv) = CHAMBERS.values()
        return (
            _R * (e_la + a_la * atria) * (y.V_la - 1e6 * d_la),
            (p.E_min_lv + p.E_lv * ventricles) * (y.V_lv - 1e6 * d_lv),
            _R * (e_ra + a_ra * atria) * (y.V_ra - 1e6 * d_ra),
            (_R * e_rv + p.E_rv * ventricles) * (y.V_rv - 1e6 * d_rv),
        )

    def vector_field(self, t: Scalar, y: LoopState, p: LoopParameters) -> LoopState:
        """Evaluate the equations of chambers, valves and vessels."""
        P_la, P_lv, P_ra, P_rv = self._chambers(t, y, p)
        R_open, R_closed = (_R * R + 0.0 * p.R_s for R in (OPEN, CLOSED))
        q_m = leaky_valve(P_la, P_lv, R_open, R_closed)
        q_a = leaky_valve(P_lv, y.P_sa, R_open, R_closed)
        q_t = leaky_valve(P_ra, P_rv, R_open, R_closed)
        q_p = leaky_valve(P_rv, y.P_pa, R_open, R_closed)
        (_, _, L_sa), (R_sv, C_sv, L_sv), (_, _, L_pa), (R_pv, C_pv, L_pv) = VESSELS.values()
        return LoopState(
            V_la=y.q_pv - q_m,
            V_lv=q_m - q_a,
            V_ra=y.q_sv - q_t,
            V_rv=q_t - q_p,
            P_sa=(q_a - y.q_sa) / p.C_sa,
            P_sv=(y.q_sa - y.q_sv) * (_R / C_sv),
            P_pa=(q_p - y.q_pa) / p.C_pa,
            P_pv=(y.q_pa - y.q_pv) * (_R / C_pv),
            q_sa=(y.P_sa - p.R_s * y.q_sa - y.P_sv) / (_R * L_sa),
            q_sv=(y.P_sv - _R * R_sv * y.q_sv - P_ra) / (_R * L_sv),
            q_pa=(y.P_pa - p.R_p * y.q_pa - y.P_pv) / (_R * L_pa),
            q_pv=(y.P_pv - _R * R_pv * y.q_pv - P_la) / (_R * L_pv),
        )

    def initial_state(self, p: LoopParameters) -> LoopState:
        """Return the published initial state."""
        volumes = (1e6 * V for V in VOLUMES.values())
        pressures = (_PASCAL * P for P in PRESSURES.values())
        flows = (1e6 * q for q in FLOWS.values())
        return LoopState(*(x + 0.0 * p.R_s for x in (*volumes, *pressures, *flows)))

    def outputs(self, t: Scalar, y: LoopState, p: LoopParameters) -> LoopOutputs:
        """Return volumes [mL] and pressures [mmHg]."""
        _, P_lv, _, P_rv = self._chambers(t, y, p)
        return LoopOutputs(y.V_la, y.V_lv, y.V_ra, y.V_rv, P_lv, P_rv, y.P_sa, y.P_pa)

    def period(self, p: LoopParameters) -> Scalar:
        """Return the period of the test case [s]."""
        return PERIOD + 0.0 * p.R_s

    def conserved(self, y: LoopState, p: LoopParameters) -> tuple[Scalar, ...]:
        """Return the volume of the closed loop above the vessels' unstressed volumes [mL]."""
        chambers = y.V_la + y.V_lv + y.V_ra + y.V_rv
        veins = (VESSELS["VEN_SYS"][1] * y.P_sv + VESSELS["VEN_PUL"][1] * y.P_pv) / _R
        return (chambers + p.C_sa * y.P_sa + p.C_pa * y.P_pa + veins,)


BOX = Box.of(LoopParameters, tuple(VARIED))
ERRORS = 4
"""Number of patients whose errors are measured."""


# What svZeroDSolver is asked for, in the order of `LoopOutputs`, and the units.
_ASKED = {
    "Vc:LA": 1e6,
    "Vc:LV": 1e6,
    "Vc:RA": 1e6,
    "Vc:RV": 1e6,
    "pressure:LV:AV": _PASCAL,
    "pressure:RV:PV": _PASCAL,
    "pressure:AV:AR_SYS": _PASCAL,
    "pressure:PV:AR_PUL": _PASCAL,
}


def case(beats: int, steps: int) -> dict[str, Any]:
    """Return the circuit in svZeroDSolver's format.

    Args:
        beats: Number of beats, of which the last is kept.
        steps: Number of steps of each.
    """

    def activation(shape: tuple[float, ...]) -> dict[str, Any]:
        names = ("t_shift", "tau_1", "m1", "tau_2", "m2")
        return {"type": "two_hill", **dict(zip(names, shape, strict=True))}

    simulation = {
        "number_of_cardiac_cycles": beats,
        "number_of_time_pts_per_cardiac_cycle": steps + 1,
        "output_variable_based": True,
        "output_all_cycles": False,
        "steady_initial": False,
        "cardiac_period": PERIOD,
    }
    vessels = [
        {
            "vessel_name": name,
            "vessel_id": number,
            "vessel_length": 10.0,
            "zero_d_element_type": "BloodVesselCRL",
            "zero_d_element_values": {"R_poiseuille": R, "C": C, "L": L},
        }
        for number, (name, (R, C, L)) in enumerate(VESSELS.items(), 1)
    ]
    chambers = [
        {
            "type": "LinearElastanceChamber",
            "name": name,
            "values": {"Emax": active, "Epass": passive, "Vrest": V_d},
            "activation_function": activation(ATRIA if name in ("LA", "RA") else VENTRICLES),
        }
        for name, (active, passive, V_d) in CHAMBERS.items()
    ]
    valves = [
        {
            "type": "PiecewiseValve",
            "name": name,
            "params": {
                "Rmin": OPEN,
                "Rmax": CLOSED,
                "upstream_block": upstream,
                "downstream_block": downstream,
            },
        }
        for name, (upstream, downstream) in VALVES.items()
    ]
    junctions = [
        {
            "junction_name": name,
            "junction_type": "NORMAL_JUNCTION",
            "inlet_blocks": [LOOP[place - 1]],
            "outlet_blocks": [LOOP[place + 1]],
        }
        for place, name in enumerate(LOOP)
        if name.startswith("J")
    ]
    return {
        "simulation_parameters": simulation,
        "vessels": vessels,
        "junctions": junctions,
        "boundary_conditions": [],
        "chambers": chambers,
        "valves": valves,
        "initial_condition": _start(),
    }


def _start() -> dict[str, float]:
    """Return the initial state with the pressures and flows that follow from it, in SI units."""
    system, p = TwoHillLoop(), jax.tree.map(jnp.asarray, LoopParameters())
    state = system.initial_state(p)
    chambers = dict(zip(CHAMBERS, system._chambers(jnp.zeros(()), state, p), strict=True))
    P_in = {name: float(P) / _PASCAL for name, P in chambers.items()} | PRESSURES
    found = {f"Vc:{name}": V for name, V in VOLUMES.items()}
    for left, right in itertools.pairwise(LOOP):
        if right in P_in:
            P = P_in[right]  # A valve's or a junction's outlet.
        elif left in CHAMBERS:
            P = P_in[left]
        else:
            P = P_in[LOOP[LOOP.index(right) + 1]]  # A vessel's end: what follows the junction.
        valve = next((name for name in (left, right) if name in VALVES), None)
        if valve is None:
            q = FLOWS[left if left in VESSELS else LOOP[LOOP.index(left) - 1]]
        else:
            difference = P_in[VALVES[valve][0]] - P_in[VALVES[valve][1]]
            q = difference / (OPEN if difference > 0 else CLOSED)
        found |= {f"pressure:{left}:{right}": P, f"flow:{left}:{right}": q}
    return found


def svzerod(beats: int, steps: int) -> Callable[[np.ndarray], np.ndarray]:
    """Return svZeroDSolver's solver, from patients' θ to the extremes of the last beat."""
    try:
        from svzerod import Solver  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise Missing(f"{error.name} (pip install svzerod)") from None
    solver = Solver(case(beats, steps))
    blocks = {block for block, _ in VARIED.values()}
    usual = {block: list(solver.read_block_params(block)) for block in blocks}

    def solve(theta: np.ndarray) -> np.ndarray:
        found = []
        for row in theta:
            own = {block: list(values) for block, values in usual.items()}
            for name, value in zip(BOX.names, row, strict=True):
                block, place = VARIED[name]
                own[block][place] = float(value) / _unit(name)
            for block, values in own.items():
                solver.update_block_params(block, values)
            solver.run()
            curves = [unit * solver.get_single_result(name) for name, unit in _ASKED.items()]
            found.append([[curve.max() for curve in curves], [curve.min() for curve in curves]])
        return np.array(found)

    return solve


def extremes(task: Task, steps: int, tolerance: float, theta: Any) -> Any:
    """Return one patient's largest and smallest outputs, [2, output], and if the beat settled."""
    if task == "third":
        method = BeatIteration(tolerance=0.0, max_beats=3)  # It never settles that far.
    else:
        method = NewtonIteration(tolerance)
    orbit = periodic_orbit(
        TwoHillLoop(), BOX.complete(theta), steps=steps, method=method, accuracy=1.0, throw=False
    )
    beat = orbit.recording(1)
    values = jnp.stack([jnp.stack(beat.maximum), jnp.stack(beat.minimum)])
    return values, orbit.success | (task == "third")


def jaxtwin(task: Task, steps: int, dtype: str) -> Callable[[np.ndarray], np.ndarray]:
    """Return jaxtwin's solver, from patients' θ to the extremes of the task's beat."""
    function = eqx.Partial(extremes, task, steps, 1e-5 if dtype == "float32" else 1e-6)

    def solve(theta: np.ndarray) -> np.ndarray:
        theta = theta.astype(dtype)
        chunk = min(len(theta), default_chunk(theta.dtype))
        values, settled = map_patients(function, theta, chunk=chunk)
        return np.where(settled[:, None, None], values, np.nan)

    return solve


def reference(task: Task, theta: np.ndarray) -> np.ndarray:
    """Return the extremes by SciPy's Radau at 1e-9; needs JAX's x64 mode.

    The settled beat starts where jaxtwin's with 3,840 steps does. That this is so is checked: a
    beat must end where it began.
    """
    from scipy.integrate import solve_ivp

    system = TwoHillLoop()

    @jax.jit
    def rates(t: Any, y: Any, theta: Any) -> Any:
        return jnp.stack(system.vector_field(t, LoopState(*y), BOX.complete(theta)))

    jacobian = jax.jit(jax.jacfwd(rates, 1))
    outputs = jax.jit(
        jax.vmap(
            lambda t, y, theta: jnp.stack(system.outputs(t, LoopState(*y), BOX.complete(theta))),
            in_axes=(0, 1, None),
        )
    )

    def one_beat(row: np.ndarray, start: np.ndarray) -> Any:
        """Solve one beat; each by itself, since the activation has a kink at its end."""
        return solve_ivp(
            lambda t, y: np.asarray(rates(t, y, row)),
            (0.0, PERIOD),
            start,
            method="Radau",
            jac=lambda t, y: np.asarray(jacobian(t, y, row)),
            rtol=1e-9,
            atol=1e-9,
            dense_output=True,
        )

    found = []
    for row in theta:
        p = BOX.complete(jnp.asarray(row))
        if task == "third":
            beat = one_beat(row, np.array(system.initial_state(p)))
            for _ in range(2):
                beat = one_beat(row, beat.y[:, -1])
        else:
            fine = NewtonIteration(1e-11)
            orbit = periodic_orbit(system, p, steps=3_840, method=fine, throw=False)
            beat = one_beat(row, np.array([leaf[0] for leaf in orbit.states]))
            if not np.allclose(beat.y[:, -1], beat.y[:, 0], rtol=1e-4, atol=1e-3):
                raise RuntimeError(f"the reference of θ = {row} has not settled")
        t = np.linspace(0.0, PERIOD, 20_001)
        curves = np.asarray(outputs(t, beat.sol(t), row))
        found.append([curves.max(0), curves.min(0)])
    return np.array(found)


@dataclasses.dataclass(frozen=True)
class Series:
    """A solver in one dtype, with the batches and the ladder of (beats, steps) to measure.

    With zero beats, the solver finds the settled beat itself.
    """

    solver: str
    dtype: str
    batches: tuple[int, ...]
    ladder: tuple[tuple[int, int], ...]


STEPS = (240, 480, 960)
SERIES = {
    "third": (
        Series("svZeroDSolver", "float64", (1,), tuple((3, n) for n in (86, 172, 344, 688, 1376))),
        Series("jaxtwin", "float32", (1, 4_096), tuple((3, n) for n in STEPS)),
        Series("jaxtwin", "float64", (1, 4_096), tuple((3, n) for n in STEPS)),
    ),
    "settled": (
        Series(
            "svZeroDSolver",
            "float64",
            (1,),
            tuple(itertools.product((3, 6, 10, 15, 20), (86, 172, 344, 688, 1376))),
        ),
        Series("jaxtwin", "float32", (1, 4_096), tuple((0, n) for n in STEPS)),
        Series("jaxtwin", "float64", (1, 4_096), tuple((0, n) for n in STEPS)),
    ),
}


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Measure both solvers.

    Attributes:
        tasks: Tasks to measure.
        targets: Errors [%] at which both are compared.
        repeats: Number of measurements of each row, whose median is shown.
        json: File to write the rows to.
        part: Task and number of the series to measure in this process (internal).
        reference: File with the expected extremes (internal).
    """

    tasks: tuple[Task, ...] = ("third", "settled")
    targets: tuple[float, ...] = (1.0, 0.5, 0.2, 0.1)
    repeats: int = 5
    json: Path | None = None
    part: tuple[Task, int] | None = None
    reference: Path | None = None


def error(values: np.ndarray, expected: np.ndarray) -> float:
    """Return the largest difference of an extreme, in percent of it; infinite if one is missing."""
    off = 100 * np.max(np.abs(values - expected) / np.abs(expected))
    return float(off) if np.isfinite(off) else float("inf")


def rows_of(task: Task, series: Series, repeats: int, expected: np.ndarray) -> list[dict[str, Any]]:
    """Measure one series."""
    table, found = np.asarray(BOX.sample(max(*series.batches, ERRORS), seed=0), float), []
    for beats, steps in series.ladder:
        if series.solver == "jaxtwin":
            solve = jaxtwin(task, steps, series.dtype)
        else:
            solve = svzerod(beats, steps)
        began = time.perf_counter()
        solve(table[:1])
        start = time.perf_counter() - began
        # One by one, so that a batch of one needs no further program.
        answers = np.concatenate([solve(row[None]) for row in table[: len(expected)]])
        off = error(answers, expected)
        for batch in series.batches:
            theta = table[:batch]
            seconds = [start] if batch == 1 else []  # The first compiles.
            while len(seconds) <= repeats:
                began = time.perf_counter()
                solve(theta)
                seconds.append(time.perf_counter() - began)
            usual = float(np.median(seconds[1:]))
            found.append(
                {
                    "task": task,
                    "solver": series.solver,
                    "dtype": series.dtype,
                    "batch": batch,
                    "beats": beats or None,
                    "steps": steps,
                    "per_second": float(f"{batch / usual:.4g}"),
                    "compile_s": round(max(seconds[0] - usual, 0.0), 2),
                    "error_percent": float(f"{off:.2g}"),
                }
            )
    return found


def equal_error(rows: list[dict[str, Any]], targets: tuple[float, ...]) -> list[dict[str, Any]]:
    """Return the fastest row of each solver, dtype and batch within each error, by task."""
    kinds = dict.fromkeys((r["task"], r["solver"], r["dtype"], r["batch"]) for r in rows)
    found = []
    for task, solver, dtype, batch in kinds:
        one: dict[str, Any] = {"task": task, "solver": solver, "dtype": dtype, "batch": batch}
        for target in targets:
            able = [
                r["per_second"]
                for r in rows
                if (r["task"], r["solver"], r["dtype"], r["batch"]) == (task, solver, dtype, batch)
                and r["error_percent"] <= target
            ]
            one[f"within {target:g}%"] = max(able) if able else None
        found.append(one)
    return found


def show(rows: list[dict[str, Any]]) -> str:
    """Return rows as a Markdown table."""
    lines = ["| " + " | ".join(rows[0]) + " |", "|---" * len(rows[0]) + "|"]
    for row in rows:
        cells = (
            "–" if cell is None else f"{cell:,}" if isinstance(cell, int | float) else cell
            for cell in row.values()
        )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def part(task: Task, number: int, repeats: int, expected: np.ndarray) -> Any:
    """Measure one series in this process; return its rows, or what is not installed."""
    series = SERIES[task][number]
    jax.config.update("jax_enable_x64", series.dtype == "float64")
    try:
        return rows_of(task, series, repeats, expected)
    except Missing as missing:
        return f"{series.solver}: skipped, not installed: {missing}"


def main(arguments: Arguments) -> None:
    """Measure every series in a process of its own, one at a time, and print both tables."""
    if arguments.part is not None:
        assert arguments.reference is not None
        expected = np.load(arguments.reference)
        print(json.dumps(part(*arguments.part, arguments.repeats, expected)))
        return
    jax.config.update("jax_enable_x64", True)
    print(json.dumps(origin()))
    rows, notes = [], []
    with tempfile.TemporaryDirectory() as folder:
        for task in arguments.tasks:
            file = Path(folder) / f"{task}.npy"
            np.save(file, reference(task, np.asarray(BOX.sample(ERRORS, seed=0))))
            for number in range(len(SERIES[task])):
                command = [sys.executable, "-m", "benchmarks.circuits", "--part", task, str(number)]
                command += ["--repeats", str(arguments.repeats), "--reference", str(file)]
                done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
                found = json.loads(done.stdout.splitlines()[-1])
                if isinstance(found, str):
                    notes.append(found)
                    continue
                rows += found
                print(show(found), flush=True)
    equal = equal_error(rows, arguments.targets)
    print("", "Beats a second, within an error of:", show(equal), *notes, sep="\n")
    if arguments.json is not None:
        told = {"rows": rows, "equal_error": equal, "notes": notes, **origin()}
        arguments.json.write_text(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    main(tyro.cli(Arguments, description=__doc__))
