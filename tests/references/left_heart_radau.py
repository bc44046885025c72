"""Periodic states of the left heart by SciPy's Radau: a route independent of jaxtwin's solver.

`python tests/references/left_heart_radau.py` writes left_heart_radau.json beside this file.
The equations are typed anew here; only the sample of parameters comes from jaxtwin.
Units: mL, mmHg, s.
"""

import argparse
import functools
import json
import sys
import time
from pathlib import Path

import numpy as np
import scipy
from scipy.integrate import solve_ivp
from scipy.optimize import minimize_scalar

from jaxtwin.models.left_heart import SEVEN

R_S, R_C, C_A, C_S, C_R, L_S, P_0 = 1.0, 0.0398, 0.08, 1.33, 4.4, 0.0005, 75.0
TOLERANCE = 1e-8
SETTLED = 1e-7
MOST_BEATS = 80
QUANTITIES = (
    "EDV",
    "ESV",
    "P_lv_max",
    "P_ao_max",
    "P_ao_min",
    "P_ao_mean",
    "P_la_mean",
    "output",
)


def elastance(t, theta):
    """Double-Hill elastance for 0 <= t <= T_c; at T_c it is the limit from the left."""
    T_c, _, E_max, E_min = theta[:4]
    t_n = t / (0.2 + 0.15 * T_c)
    g = (t_n / 0.7) ** 1.9
    h = (t_n / 1.17) ** 21.9
    return (E_max - E_min) * 1.55 * g / (1 + g) / (1 + h) + E_min


def one_beat(theta, start, tolerance):
    """SciPy's solution over one beat, from the state (V, P_la, P_a, P_ao, Q) at t = 0."""
    R_m, R_a = theta[4:6]

    def rates(t, y):
        V, P_la, P_a, P_ao, Q = y.tolist()
        P_lv = elastance(t, theta) * V
        q_m = max(P_la - P_lv, 0.0) / R_m
        q_a = max(P_lv - P_ao, 0.0) / R_a
        q_s = (P_a - P_la) / R_S
        return np.array(
            [
                q_m - q_a,
                (q_s - q_m) / C_R,
                (Q - q_s) / C_S,
                (q_a - Q) / C_A,
                (P_ao - P_a - R_C * Q) / L_S,
            ]
        )

    def jacobian(t, y):
        V, P_la, _, P_ao, _ = y.tolist()
        E = elastance(t, theta)
        m = 1 / R_m if P_la > E * V else 0.0
        a = 1 / R_a if P_ao < E * V else 0.0
        s = 1 / R_S
        return np.array(
            [
                [-E * (m + a), m, 0.0, a, 0.0],
                [E * m / C_R, -(s + m) / C_R, s / C_R, 0.0, 0.0],
                [0.0, s / C_S, -s / C_S, 0.0, 1 / C_S],
                [E * a / C_A, 0.0, 0.0, -a / C_A, -1 / C_A],
                [0.0, 0.0, -1 / L_S, 1 / L_S, -R_C / L_S],
            ]
        )

    solution = solve_ivp(
        rates,
        (0.0, theta[0]),
        start,
        method="Radau",
        jac=jacobian,
        rtol=tolerance,
        atol=tolerance,
        dense_output=True,
    )
    if not solution.success:
        raise RuntimeError(solution.message)
    return solution


def settle(run, start, tolerance, settled, most_beats=MOST_BEATS):
    """Integrate with run(start, tolerance) until no state changes by more than `settled` a beat.

    A change is relative to the state's largest size over the beat. From the fourth beat on,
    the next start is an Anderson extrapolation of the beats' ends. Its weights sum to one, so
    it keeps the stressed volume, which is linear in the state.

    Returns:
        The last beat, its largest relative change, and the number of beats.
    """
    ends, changes, least = [], [], np.inf
    for beat in range(1, most_beats + 1):
        last = run(start, tolerance)
        y = last.y
        size = np.max(np.abs(y), axis=1)
        change = (y[:, -1] - y[:, 0]) / size
        residual = np.max(np.abs(change))
        if residual < settled or beat == most_beats:
            return last, residual, beat
        if residual > 3 * least:
            # Extrapolated over a valve's switch: forget what misled it.
            ends, changes = [], []
        least = min(least, residual)
        ends, changes = [*ends[-4:], y[:, -1]], [*changes[-4:], change * size]
        start = y[:, -1]
        if beat > 3 and len(ends) > 1:
            steps = np.diff(changes, axis=0).T / size[:, None]
            weights = np.linalg.lstsq(steps, change, rcond=1e-6)[0]
            start = start - np.diff(ends, axis=0).T @ weights
    raise ValueError("most_beats: expected at least 1")


def extremum(function, times, sign):
    """The largest (sign 1) or smallest (sign -1) value, refined around the best of `times`."""
    values = sign * function(times)
    best = int(np.argmax(values))
    ends = times[max(best - 1, 0)], times[min(best + 1, len(times) - 1)]
    refined = minimize_scalar(
        lambda t: -sign * function(t), bounds=ends, method="bounded", options={"xatol": 1e-12}
    )
    return sign * max(values[best], -refined.fun)


def periodic_beat(theta, tolerance=TOLERANCE, settled=SETTLED):
    """The periodic beat of (T_c, V_0, E_max, E_min, R_m, R_a, V_d).

    Returns:
        The quantities (mL, mmHg, L/min), with "residual", the largest relative change of a
        state over the last beat, and "beats", how many were integrated at `tolerance`.
    """
    theta = [float(x) for x in theta]
    T_c, V_0, _, E_min, _, _, V_d = theta
    start = np.array([V_0, V_0 * E_min, P_0, P_0, 0.0])
    # Cheap beats first: they only bring the start nearer.
    run = functools.partial(one_beat, theta)
    loose, _, _ = settle(run, start, 1e-5, 1e-5, most_beats=20)
    beat, residual, beats = settle(run, loose.y[:, -1], tolerance, settled)

    steps = beat.t
    times = np.union1d(np.linspace(0, T_c, 4001), steps)

    def V(t):
        return beat.sol(t)[0]

    def P_lv(t):
        return elastance(t, theta) * V(t)

    def P_ao(t):
        return beat.sol(t)[3]

    # Gauss points in each step: exact for the cubics of the dense output.
    points, weights = np.polynomial.legendre.leggauss(3)
    width = np.diff(steps)
    inner = steps[:-1, None] + width[:, None] * (points + 1) / 2
    inside = beat.sol(inner.ravel()).reshape(5, *inner.shape)
    _, P_la_mean, P_a_mean, P_ao_mean, _ = inside @ weights @ width / (2 * T_c)
    return {
        "EDV": V_d + extremum(V, times, 1),
        "ESV": V_d + extremum(V, times, -1),
        "P_lv_max": extremum(P_lv, times, 1),
        "P_ao_max": extremum(P_ao, times, 1),
        "P_ao_min": extremum(P_ao, times, -1),
        "P_ao_mean": P_ao_mean,
        "P_la_mean": P_la_mean,
        "output": (P_a_mean - P_la_mean) / R_S * 60 / 1000,
        "residual": residual,
        "beats": beats,
    }


def write(path, theta, rows):
    """Write the table, one patient or one quantity a line."""
    source = (
        "tests/references/left_heart_radau.py on SEVEN.sample(256, seed=0): SciPy "
        f"{scipy.__version__} solve_ivp Radau with its analytic Jacobian, rtol = atol = "
        f"{TOLERANCE:g}, beat by beat until no state changes by more than {SETTLED:g} of its "
        f"largest size (residual), NumPy {np.__version__}; mL, mmHg, s, L/min."
    )
    values = {q: [round(float(row[q]), 6) for row in rows] for q in QUANTITIES}
    residual = [float(f"{row['residual']:.2e}") for row in rows]
    lines = ",\n".join(f"  {json.dumps(row.tolist())}" for row in theta[: len(rows)])
    columns = ",\n".join(f'  "{q}": {json.dumps(v)}' for q, v in values.items())
    path.write_text(
        f'{{\n "source": {json.dumps(source)},\n "names": {json.dumps(list(SEVEN.names))},\n'
        f' "theta": [\n{lines}\n ],\n "values": {{\n{columns}\n }},\n'
        f' "residual": {json.dumps(residual)}\n}}\n'
    )


def main():
    """Write left_heart_radau.json; the file grows while the script runs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=256, help="how many of the 256 points")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    arguments = parser.parse_args()
    theta = np.asarray(SEVEN.sample(256, seed=0), np.float64)[: arguments.points]
    rows, begun = [], time.perf_counter()
    for i, row in enumerate(theta):
        rows.append(periodic_beat(row))
        seconds = time.perf_counter() - begun
        print(
            f"{i + 1}/{len(theta)} beats {rows[-1]['beats']} residual "
            f"{rows[-1]['residual']:.1e} {seconds:.0f} s",
            file=sys.stderr,
            flush=True,
        )
        if (i + 1) % 16 == 0 or i + 1 == len(theta):
            write(arguments.out, theta, rows)


if __name__ == "__main__":
    main()
