"""A circuit of all four chambers with orifice valves and inertances, 14 states.

Shi and Korakianitis, "Numerical simulation of cardiovascular dynamics with healthy and diseased
heart valves", Journal of Biomechanics 39(11), 2006: valves open or shut, q = CQ √Δp. It is not
piecewise linear, and 240 steps are too few for it.
"""

from typing import NamedTuple

import jax.numpy as jnp

from jaxtwin.parameters import AbstractParameters, Scalar, parameter
from jaxtwin.physics.base import AbstractPeriodicSystem


def _field(default, meaning, unit="mmHg/mL"):
    return parameter(
        default, symbol=meaning, unit=unit, meaning=meaning, source="Shi 2006", bounds=None
    )


class ShiParameters(AbstractParameters):
    E_lv: Scalar = _field(2.5, "E_lv")
    E_rv: Scalar = _field(1.15, "E_rv")
    CQ_ao: Scalar = _field(350.0, "CQ_ao", "mL/s/mmHg^0.5")
    R_s: Scalar = _field(1.145, "R_s", "mmHg·s/mL")
    C_sat: Scalar = _field(1.6, "C_sat", "mL/mmHg")
    T: Scalar = _field(1.0, "T", "s")


class ShiState(NamedTuple):
    V_la: Scalar
    V_lv: Scalar
    V_ra: Scalar
    V_rv: Scalar
    P_sas: Scalar
    Q_sas: Scalar
    P_sat: Scalar
    Q_sat: Scalar
    P_svn: Scalar
    P_pas: Scalar
    Q_pas: Scalar
    P_pat: Scalar
    Q_pat: Scalar
    P_pvn: Scalar


class ShiOutputs(NamedTuple):
    P_lv: Scalar
    P_sas: Scalar
    V_lv: Scalar
    q_ao: Scalar


C_SAS, C_SVN, C_PAS, C_PAT, C_PVN = 0.08, 20.5, 0.18, 3.8, 20.5


def orifice(CQ, dp):
    """Written such that both modes are finite where the valve is shut."""
    return jnp.where(dp > 0, CQ * jnp.sqrt(jnp.where(dp > 0, dp, 1.0)), 0.0)


class ShiKorakianitis(AbstractPeriodicSystem[ShiState, ShiParameters, ShiOutputs]):
    parameters = ShiParameters

    def period(self, p):
        return p.T

    def _pressures(self, t, s, p):
        phase = t / p.T
        phase = phase - jnp.floor(phase)
        rise = 0.5 * (1 - jnp.cos(jnp.pi * phase / 0.3))
        fall = 0.5 * (1 + jnp.cos(jnp.pi * (phase - 0.3) / 0.15))
        e_v = jnp.where(phase < 0.3, rise, jnp.where(phase < 0.45, fall, 0.0))
        late = 0.5 * (1 - jnp.cos(2 * jnp.pi * (phase - 0.92) / 0.09))
        early = 0.5 * (1 - jnp.cos(2 * jnp.pi * (phase + 0.08) / 0.09))
        e_a = jnp.where(phase >= 0.92, late, jnp.where(phase < 0.01, early, 0.0))
        return (
            1 + (0.15 + 0.1 * e_a) * (s.V_la - 4),
            1 + (0.1 + (p.E_lv - 0.1) * e_v) * (s.V_lv - 5),
            1 + (0.15 + 0.1 * e_a) * (s.V_ra - 4),
            1 + (0.1 + (p.E_rv - 0.1) * e_v) * (s.V_rv - 10),
        )

    def vector_field(self, t, state, p):
        s = state
        P_la, P_lv, P_ra, P_rv = self._pressures(t, s, p)
        q_mi, q_ao = orifice(400.0, P_la - P_lv), orifice(p.CQ_ao, P_lv - s.P_sas)
        q_ti, q_po = orifice(400.0, P_ra - P_rv), orifice(350.0, P_rv - s.P_pas)
        q_svn, q_pvn = (s.P_svn - P_ra) / 0.075, (s.P_pvn - P_la) / 0.006
        return ShiState(
            V_la=q_pvn - q_mi,
            V_lv=q_mi - q_ao,
            V_ra=q_svn - q_ti,
            V_rv=q_ti - q_po,
            P_sas=(q_ao - s.Q_sas) / C_SAS,
            Q_sas=(s.P_sas - s.P_sat - 0.003 * s.Q_sas) / 6.2e-5,
            P_sat=(s.Q_sas - s.Q_sat) / p.C_sat,
            Q_sat=(s.P_sat - s.P_svn - p.R_s * s.Q_sat) / 0.0017,
            P_svn=(s.Q_sat - q_svn) / C_SVN,
            P_pas=(q_po - s.Q_pas) / C_PAS,
            Q_pas=(s.P_pas - s.P_pat - 0.002 * s.Q_pas) / 5.2e-5,
            P_pat=(s.Q_pas - s.Q_pat) / C_PAT,
            Q_pat=(s.P_pat - s.P_pvn - 0.31 * s.Q_pat) / 0.0017,
            P_pvn=(s.Q_pat - q_pvn) / C_PVN,
        )

    def initial_state(self, p):
        zero = 0.0 * p.T
        values = dict(V_la=20.0, V_lv=500.0, V_ra=20.0, V_rv=500.0, P_sas=100.0, P_sat=100.0)
        values |= dict(P_pas=30.0, P_pat=30.0)
        return ShiState(*(zero + values.get(name, 0.0) for name in ShiState._fields))

    def outputs(self, t, state, p):
        _, P_lv, _, _ = self._pressures(t, state, p)
        return ShiOutputs(P_lv, state.P_sas, state.V_lv, orifice(p.CQ_ao, P_lv - state.P_sas))

    def conserved(self, state, p):
        s = state
        arteries = C_SAS * s.P_sas + p.C_sat * s.P_sat + C_PAS * s.P_pas + C_PAT * s.P_pat
        veins = C_SVN * s.P_svn + C_PVN * s.P_pvn
        return (s.V_la + s.V_lv + s.V_ra + s.V_rv + arteries + veins,)
