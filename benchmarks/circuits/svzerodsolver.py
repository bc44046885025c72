"""The circuit in svZeroDSolver's format, and its solver."""

import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.circuits.loop import BOX, PASCAL, LoopParameters, TwoHillLoop, unit_of
from benchmarks.circuits.published import (
    ATRIA,
    CHAMBERS,
    CLOSED,
    FLOWS,
    LOOP,
    OPEN,
    PERIOD,
    PRESSURES,
    VALVES,
    VARIED,
    VENTRICLES,
    VESSELS,
    VOLUMES,
)
from benchmarks.rivals import Missing

# What svZeroDSolver is asked for, in the order of `LoopOutputs`, and the units.
ASKED = {
    "Vc:LA": 1e6,
    "Vc:LV": 1e6,
    "Vc:RA": 1e6,
    "Vc:RV": 1e6,
    "pressure:LV:AV": PASCAL,
    "pressure:RV:PV": PASCAL,
    "pressure:AV:AR_SYS": PASCAL,
    "pressure:PV:AR_PUL": PASCAL,
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
        "initial_condition": initial_condition(),
    }


def initial_condition() -> dict[str, float]:
    """Return the initial state with the pressures and flows that follow from it, in SI units."""
    system, p = TwoHillLoop(), jax.tree.map(jnp.asarray, LoopParameters())
    state = system.initial_state(p)
    chambers = dict(zip(CHAMBERS, system.chamber_pressures(jnp.zeros(()), state, p), strict=True))
    P_in = {name: float(P) / PASCAL for name, P in chambers.items()} | PRESSURES
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
                own[block][place] = float(value) / unit_of(name)
            for block, values in own.items():
                solver.update_block_params(block, values)
            solver.run()
            curves = [unit * solver.get_single_result(name) for name, unit in ASKED.items()]
            found.append([[curve.max() for curve in curves], [curve.min() for curve in curves]])
        return np.array(found)

    return solve
