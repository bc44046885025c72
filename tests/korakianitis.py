"""A published circuit of fourteen states in sixty lines, as a user would write it."""

from collections import namedtuple

from jaxtwin.models.elastance import cosine_activation
from jaxtwin.models.valves import orifice_valve
from jaxtwin.parameters import AbstractParameters, Scalar, parameter
from jaxtwin.physics.base import AbstractPeriodicSystem

E, R, C, CQ = "mmHg/mL", "mmHg·s/mL", "mL/mmHg", "mL/s/mmHg^½"
CONTRACTION, RELAXATION, ATRIA_AT, ATRIA_FOR = 0.3, 0.15, 0.92, 0.045  # Shares of the period
E_A, E_A_MIN, P_0 = 0.25, 0.15, 1.0  # The atria's; a chamber's pressure at V = 0
C_SAS, R_SAS, L_SAS, L_SAT, C_SVN, R_SVN = 0.08, 0.003, 6.2e-5, 0.0017, 20.5, 0.075
C_PAS, R_PAS, L_PAS, L_PAT, C_PVN, R_PVN = 0.18, 0.002, 5.2e-5, 0.0017, 20.5, 0.006


class LoopParameters(AbstractParameters):
    source = "Korakianitis and Shi, Journal of Biomechanics 39, 2006"
    T_c: Scalar = parameter(1.0, (0.5, 1.5), "s", "heart period")
    E_lv: Scalar = parameter(2.5, (0.5, 4.0), E, "left ventricle, peak elastance")
    E_lv_min: Scalar = parameter(0.1, (0.05, 0.2), E, "left ventricle, passive elastance")
    E_rv: Scalar = parameter(1.15, (0.3, 2.0), E, "right ventricle, peak elastance")
    E_rv_min: Scalar = parameter(0.1, (0.05, 0.2), E, "right ventricle, passive elastance")
    CQ_mi: Scalar = parameter(400.0, None, CQ, "mitral valve")
    CQ_ao: Scalar = parameter(350.0, (50.0, 400.0), CQ, "aortic valve")
    CQ_ti: Scalar = parameter(400.0, None, CQ, "tricuspid valve")
    CQ_po: Scalar = parameter(350.0, None, CQ, "pulmonary valve")
    C_sat: Scalar = parameter(1.6, (0.5, 3.0), C, "compliance of the systemic arteries")
    R_s: Scalar = parameter(1.07, (0.5, 2.0), R, "systemic arteries to veins")
    C_pat: Scalar = parameter(3.8, None, C, "compliance of the pulmonary arteries")
    R_p: Scalar = parameter(0.31, (0.05, 0.8), R, "pulmonary arteries to veins")
    V_0: Scalar = parameter(490.0, (300.0, 600.0), "mL", "volume of each ventricle at t = 0")


PLACES = "V_la V_lv V_ra V_rv P_sas Q_sas P_sat Q_sat P_svn P_pas Q_pas P_pat Q_pat P_pvn"
State = namedtuple("State", PLACES)
Outputs = namedtuple("Outputs", PLACES + " P_la P_lv P_ra P_rv q_mi q_ao q_ti q_po")


class Loop(AbstractPeriodicSystem):
    parameters = LoopParameters
    steps = 960

    def period(self, p):
        return p.T_c

    def initial_state(self, p):
        V, z = p.V_0, 0.0 * p.V_0
        return State(16 + z, V, 16 + z, V, 100 + z, z, 100 + z, z, z, 30 + z, z, 30 + z, z, z)

    def conserved(self, state, p):
        volume = sum(state[:4]) + C_SAS * state.P_sas + p.C_sat * state.P_sat + C_SVN * state.P_svn
        return (volume + C_PAS * state.P_pas + p.C_pat * state.P_pat + C_PVN * state.P_pvn,)

    def outputs(self, t, state, p):
        ventricles, atria = (0.0, CONTRACTION, RELAXATION), (ATRIA_AT, ATRIA_FOR, ATRIA_FOR)
        v, a = (cosine_activation(t / p.T_c, 1.0, *shares) for shares in (ventricles, atria))
        P_la, P_ra = (P_0 + (E_A_MIN + (E_A - E_A_MIN) * a) * V for V in (state.V_la, state.V_ra))
        P_lv = P_0 + (p.E_lv_min + (p.E_lv - p.E_lv_min) * v) * state.V_lv
        P_rv = P_0 + (p.E_rv_min + (p.E_rv - p.E_rv_min) * v) * state.V_rv
        q_mi, q_ao = orifice_valve(P_la, P_lv, p.CQ_mi), orifice_valve(P_lv, state.P_sas, p.CQ_ao)
        q_ti, q_po = orifice_valve(P_ra, P_rv, p.CQ_ti), orifice_valve(P_rv, state.P_pas, p.CQ_po)
        return Outputs(*state, P_la, P_lv, P_ra, P_rv, q_mi, q_ao, q_ti, q_po)

    def vector_field(self, t, state, p):
        s, o = state, self.outputs(t, state, p)
        q_sv, q_pv = (s.P_svn - o.P_ra) / R_SVN, (s.P_pvn - o.P_la) / R_PVN
        chambers = (q_pv - o.q_mi, o.q_mi - o.q_ao, q_sv - o.q_ti, o.q_ti - o.q_po)
        aorta = (o.q_ao - s.Q_sas) / C_SAS, (s.P_sas - s.P_sat - R_SAS * s.Q_sas) / L_SAS
        body = (s.Q_sas - s.Q_sat) / p.C_sat, (s.P_sat - s.P_svn - p.R_s * s.Q_sat) / L_SAT
        sinus = (o.q_po - s.Q_pas) / C_PAS, (s.P_pas - s.P_pat - R_PAS * s.Q_pas) / L_PAS
        lungs = (s.Q_pas - s.Q_pat) / p.C_pat, (s.P_pat - s.P_pvn - p.R_p * s.Q_pat) / L_PAT
        veins = (s.Q_sat - q_sv) / C_SVN, (s.Q_pat - q_pv) / C_PVN
        return State(*chambers, *aorta, *body, veins[0], *sinus, *lungs, veins[1])
