"""Alternatives to jaxtwin's solver: the same beat computed with other software.

Every alternative starts from the same initial state, runs `BEATS` beats and samples the last one at
`SAMPLES` + 1 times (as in the paper: 70 beats, 60,001 times). The slowest of 256 points of the box
is then within 0.05 mL of its periodic state. All compute in float64: in float32 Diffrax's implicit
solvers reject so many steps that they are slower. Each is a function from a table of the seven
parameters to the largest and smallest ventricular volume [mL] and whether each patient failed.
"""

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

BEATS, SAMPLES = 10, 240
Volumes: TypeAlias = tuple[np.ndarray, np.ndarray]
"""EDV and ESV, [patient, 2] in mL; and failures, [patient]."""
Solve: TypeAlias = Callable[[np.ndarray], Volumes]

R_S, R_C, C_A, C_S, C_R, L_S, P_0 = 1.0, 0.0398, 0.08, 1.33, 4.4, 0.0005, 75.0


class Missing(Exception):
    """Error for a library that is not installed."""


def summary(V: np.ndarray, theta: np.ndarray, succeeded: Any = True) -> Volumes:
    """Return volumes and failures from the stressed volume, [patient, time]."""
    V = V + theta[:, 6:7]
    failed = ~(np.isfinite(V).all(axis=1) & succeeded)
    return np.stack([V.max(axis=1), V.min(axis=1)], axis=1), failed


def diffrax(solver: str, tolerance: float) -> Solve:
    """Return an adaptive solver of Diffrax with default settings, vmapped over patients."""
    import diffrax as dfx
    import jax
    import jax.numpy as jnp

    from jaxtwin.models.left_heart import SEVEN, LeftHeart
    from jaxtwin.physics.solve import ode_term

    heart = LeftHeart()

    @jax.jit
    @jax.vmap
    def run(theta):
        p: Any = SEVEN.complete(theta)
        solution: Any = dfx.diffeqsolve(
            ode_term(heart),
            getattr(dfx, solver)(),
            0.0,
            BEATS * p.T_c,
            None,
            heart.initial_state(p),
            p,
            saveat=dfx.SaveAt(ts=p.T_c * jnp.linspace(BEATS - 1, BEATS, SAMPLES + 1)),
            stepsize_controller=dfx.PIDController(rtol=tolerance, atol=tolerance),
            max_steps=1_000_000,
            throw=False,
        )
        return solution.ys.V, solution.result == dfx.RESULTS.successful

    def solve(theta):
        V, succeeded = run(theta)
        return summary(np.asarray(V), theta, np.asarray(succeeded))

    return solve


def elastance(t: float, T_c: float, E_max: float, E_min: float) -> float:
    """Return the double-Hill elastance [mmHg/mL] at any time [s]."""
    t_n = (t % T_c) / (0.2 + 0.15 * T_c)
    g = (t_n / 0.7) ** 1.9
    return (E_max - E_min) * 1.55 * g / (1 + g) / (1 + (t_n / 1.17) ** 21.9) + E_min


def scipy_odeint(beats: int, samples: int, tolerance: float | None) -> Solve:
    """Return SciPy's LSODA, patient by patient, with the right-hand side in Python."""
    from scipy.integrate import odeint

    def rates(y, t, T_c, E_max, E_min, R_m, R_a):
        V, P_la, P_a, P_ao, Q = y
        P_lv = elastance(t, T_c, E_max, E_min) * V
        q_m = max(P_la - P_lv, 0.0) / R_m
        q_a = max(P_lv - P_ao, 0.0) / R_a
        q_s = (P_a - P_la) / R_S
        return [
            q_m - q_a,
            (q_s - q_m) / C_R,
            (Q - q_s) / C_S,
            (q_a - Q) / C_A,
            (P_ao - P_a - R_C * Q) / L_S,
        ]

    def one(theta):
        T_c, V_0, E_max, E_min, R_m, R_a, _ = theta.tolist()
        if samples > SAMPLES:  # The paper keeps every beat at full resolution.
            times = np.linspace(0.0, beats * T_c, beats * samples + 1)
        else:
            times = np.append(0.0, T_c * np.linspace(beats - 1, beats, samples + 1))
        states, information = odeint(
            rates,
            [V_0, V_0 * E_min, P_0, P_0, 0.0],
            times,
            args=(T_c, E_max, E_min, R_m, R_a),
            rtol=tolerance,
            atol=tolerance,
            mxstep=1_000_000,
            full_output=True,
        )
        return states[-samples - 1 :, 0], "successful" in information["message"]

    def solve(theta):
        V, succeeded = zip(*(one(row) for row in theta.astype(np.float64)), strict=True)
        return summary(np.stack(V), theta, np.array(succeeded))

    return solve


def numbalsoda(tolerance: float) -> Solve:
    """Return LSODA with a compiled right-hand side, parallelised over patients by Numba."""
    try:
        import numba  # pyright: ignore[reportMissingImports]
        from numbalsoda import lsoda, lsoda_sig  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise Missing(
            f"{error.name} (pip install numbalsoda; it needs a Fortran compiler)"
        ) from None

    fast_elastance = numba.njit(elastance)

    def rates(t, y, dy, p):
        V, P_la, P_a, P_ao, Q = y[0], y[1], y[2], y[3], y[4]
        P_lv = fast_elastance(t, p[0], p[2], p[3]) * V
        q_m = max(P_la - P_lv, 0.0) / p[4]
        q_a = max(P_lv - P_ao, 0.0) / p[5]
        q_s = (P_a - P_la) / R_S
        dy[0] = q_m - q_a
        dy[1] = (q_s - q_m) / C_R
        dy[2] = (Q - q_s) / C_S
        dy[3] = (q_a - Q) / C_A
        dy[4] = (P_ao - P_a - R_C * Q) / L_S

    address = numba.cfunc(lsoda_sig)(rates).address

    @numba.njit(parallel=True)
    def run(theta):
        V = np.empty((len(theta), SAMPLES + 1))
        succeeded = np.empty(len(theta), np.bool_)
        for i in numba.prange(len(theta)):
            p = theta[i].copy()
            start = np.array([p[1], p[1] * p[3], P_0, P_0, 0.0])
            times = np.zeros(SAMPLES + 2)
            times[1:] = p[0] * np.linspace(BEATS - 1, BEATS, SAMPLES + 1)
            states, ok = lsoda(
                address, start, times, p, rtol=tolerance, atol=tolerance, mxstep=1_000_000
            )
            V[i], succeeded[i] = states[1:, 0], ok
        return V, succeeded

    def solve(theta):
        V, succeeded = run(theta.astype(np.float64))
        return summary(V, theta, succeeded)

    return solve


def torchdiffeq(tolerance: float) -> Solve:
    """Return torchdiffeq's dopri5, with the batch as one system and time in periods."""
    try:
        import torch  # pyright: ignore[reportMissingImports]
        from torchdiffeq import odeint  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise Missing(f'{error.name} (pip install -e ".[bench]")') from None

    def solve(theta):
        p = torch.as_tensor(theta, dtype=torch.float64)
        T_c, V_0, E_max, E_min, R_m, R_a, _ = p.T

        def rates(periods, y):
            V, P_la, P_a, P_ao, Q = y
            t_n = (periods % 1.0) * T_c / (0.2 + 0.15 * T_c)
            g = (t_n / 0.7) ** 1.9
            E = (E_max - E_min) * 1.55 * g / (1 + g) / (1 + (t_n / 1.17) ** 21.9) + E_min
            q_m = torch.relu(P_la - E * V) / R_m
            q_a = torch.relu(E * V - P_ao) / R_a
            q_s = (P_a - P_la) / R_S
            change = [
                q_m - q_a,
                (q_s - q_m) / C_R,
                (Q - q_s) / C_S,
                (q_a - Q) / C_A,
                (P_ao - P_a - R_C * Q) / L_S,
            ]
            return T_c * torch.stack(change)

        start = torch.stack([V_0, V_0 * E_min, P_0 + 0 * V_0, P_0 + 0 * V_0, 0 * V_0])
        times = torch.linspace(BEATS - 1, BEATS, SAMPLES + 1, dtype=torch.float64)
        times = torch.cat([torch.zeros(1, dtype=torch.float64), times])
        with torch.no_grad():
            states = odeint(rates, start, times, rtol=tolerance, atol=tolerance, method="dopri5")
        return summary(states[1:, 0].T.numpy(), theta)

    return solve


RIVALS: dict[str, Callable[[], Solve]] = {
    "Diffrax Kvaerno3, 1e-4": lambda: diffrax("Kvaerno3", 1e-4),
    "Diffrax Kvaerno5, 1e-6": lambda: diffrax("Kvaerno5", 1e-6),
    "Diffrax Tsit5, 1e-6": lambda: diffrax("Tsit5", 1e-6),
    "SciPy LSODA, as in the paper": lambda: scipy_odeint(70, 60_000, None),
    "SciPy LSODA, 1e-6": lambda: scipy_odeint(BEATS, SAMPLES, 1e-6),
    "numbalsoda, 1e-6": lambda: numbalsoda(1e-6),
    "torchdiffeq dopri5, 1e-6": lambda: torchdiffeq(1e-6),
}
"""Functions that create a solver, by name."""
