"""Periodic states of the left heart with a pump by SciPy's Radau, independent of jaxtwin.

`python tests/references/lvad_radau.py` writes lvad_radau.json beside this file: a healthy, a
failing and a stiff heart at 8,000 to 14,000 rpm, and into suction. The equations are typed anew
here. Units: mL, mmHg, s.
"""

import functools
import json
from pathlib import Path

import numpy as np
import scipy
from scipy.integrate import solve_ivp

from tests.references.left_heart_radau import (
    C_A,
    C_R,
    C_S,
    L_S,
    P_0,
    R_C,
    R_S,
    elastance,
    extremum,
    settle,
)

# T_c, V_0, E_max, E_min, R_m, R_a, V_d
HEARTS = {
    "healthy": (1.0, 140.0, 2.0, 0.06, 0.005, 0.001, 10.0),
    "failing": (0.8, 180.0, 0.6, 0.04, 0.005, 0.001, 15.0),
    "stiff": (0.7, 120.0, 1.2, 0.09, 0.03, 0.02, 8.0),
}
SPEEDS = (8_000.0, 10_000.0, 12_000.0, 14_000.0, 17_000.0)
R_P, L_P, BETA_2 = 0.0677 + 0.0677 + 0.296, 0.0127 + 0.0127 + 0.027, 9.9025e-7
TOLERANCE, SETTLED = 1e-8, 1e-7
QUANTITIES = ("V_max", "V_min", "Q_p_max", "Q_p_min", "Q_p_mean", "output", "P_ao_mean")


def one_beat(theta, speed, start, tolerance):
    """SciPy's solution over one beat, from (V, P_la, P_a, P_ao, Q, Q_p) at t = 0."""
    R_m, R_a = theta[4:6]

    def rates(t, y):
        V, P_la, P_a, P_ao, Q, Q_p = y.tolist()
        P_lv = elastance(t, theta) * V
        q_m = max(P_la - P_lv, 0.0) / R_m
        q_a = max(P_lv - P_ao, 0.0) / R_a
        q_s = (P_a - P_la) / R_S
        R_k = 0.0 if P_lv > 1 else -3.5 * (P_lv - 1)
        return np.array(
            [
                q_m - q_a - Q_p,
                (q_s - q_m) / C_R,
                (Q - q_s) / C_S,
                (q_a + Q_p - Q) / C_A,
                (P_ao - P_a - R_C * Q) / L_S,
                (P_lv - P_ao - (R_P + R_k) * Q_p + BETA_2 * speed**2) / L_P,
            ]
        )

    # With the numerical Jacobian: no second formula that could be wrong.
    solution = solve_ivp(
        rates,
        (0.0, theta[0]),
        start,
        method="Radau",
        rtol=tolerance,
        atol=tolerance,
        dense_output=True,
        max_step=theta[0] / 50,
    )
    if not solution.success:
        raise RuntimeError(solution.message)
    return solution


def periodic_beat(theta, speed, tolerance=TOLERANCE, settled=SETTLED):
    """The periodic beat: volumes [mL], flows [mL/s], means of flow [L/min] and pressure [mmHg]."""
    T_c, V_0, _, E_min, _, _, V_d = theta
    run = functools.partial(one_beat, theta, speed)
    start = np.array([V_0, V_0 * E_min, P_0, P_0, 0.0, 0.0])
    loose, _, _ = settle(run, start, 1e-5, 1e-5, most_beats=30)
    beat, residual, _ = settle(run, loose.y[:, -1], tolerance, settled)
    times = np.union1d(np.linspace(0, T_c, 4001), beat.t)
    points, weights = np.polynomial.legendre.leggauss(3)
    width = np.diff(beat.t)
    inner = beat.t[:-1, None] + width[:, None] * (points + 1) / 2
    inside = beat.sol(inner.ravel()).reshape(6, *inner.shape)
    _, P_la, P_a, P_ao, _, Q_p = inside @ weights @ width / (2 * T_c)
    of = {i: (lambda t, i=i: beat.sol(t)[i]) for i in (0, 5)}
    return {
        "V_max": V_d + extremum(of[0], times, 1),
        "V_min": V_d + extremum(of[0], times, -1),
        "Q_p_max": extremum(of[5], times, 1),
        "Q_p_min": extremum(of[5], times, -1),
        "Q_p_mean": Q_p * 0.06,
        "output": (P_a - P_la) / R_S * 0.06,
        "P_ao_mean": P_ao,
        "residual": residual,
    }


def main():
    """Write lvad_radau.json."""
    rows = []
    for name, theta in HEARTS.items():
        for speed in SPEEDS:
            found = periodic_beat(theta, speed)
            print(name, speed, found, flush=True)
            values = {q: round(float(found[q]), 6) for q in QUANTITIES}
            residual = float(f"{found['residual']:.2e}")
            rows.append({"heart": name, "speed": speed, **values, "residual": residual})
    source = (
        f"tests/references/lvad_radau.py: SciPy {scipy.__version__} solve_ivp Radau, rtol = atol = "
        f"{TOLERANCE:g}, until no state changes by more than {SETTLED:g} of its size; mL, mL/s, "
        "L/min, mmHg."
    )
    lines = ",\n".join(f"  {json.dumps(row)}" for row in rows)
    text = f'{{\n "source": {json.dumps(source)},\n "rows": [\n{lines}\n ]\n}}\n'
    Path(__file__).with_suffix(".json").write_text(text)


if __name__ == "__main__":
    main()
