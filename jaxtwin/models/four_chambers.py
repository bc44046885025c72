"""Both sides of the heart and both circulations as a closed loop of eight states, with a septum.

The loop is the lumped circulation of Regazzoni, Salvador, Africa, Fedele, Dede' and Quarteroni, "A
cardiac electromechanical model coupled with a lumped-parameter model for closed-loop blood
circulation", Journal of Computational Physics 457, 2022. The septum is that of Maughan, Sunagawa
and Sagawa, "Ventricular systolic interdependence: volume elastance model in isolated canine
hearts", American Journal of Physiology 253, 1987, and of Santamore and Burkhoff, "Hemodynamic
consequences of ventricular interaction as assessed by model analysis", ibid. 260, 1991.

The inertances of the vessels (four more states, with time constants of 2 to 6 ms) and the leakage
of closed valves are left out: at the published values they change the extremes of volumes and
pressures by no more than 0.2 mL and 0.3 mmHg.
"""

from typing import Annotated, Any, ClassVar, NamedTuple

from jaxtwin.models.ejection import ejection_fraction
from jaxtwin.models.elastance import cosine_activation
from jaxtwin.models.valves import ideal_valve
from jaxtwin.models.ventricle import AbstractVentricle
from jaxtwin.parameters import AbstractParameters, Box, Scalar, parameter
from jaxtwin.physics.solution import Reading

_E, _R, _C = "mmHg/mL", "mmHg·s/mL", "mL/mmHg"
_GAINS = "gains of Dickstein 1997, see `FourChambers`; bounds wide around it"


def _free(default: float, low: float, high: float, symbol: str, unit: str, meaning: str) -> Any:
    source = "Regazzoni 2022 (default); bounds from health to severe disease, chosen here"
    return parameter(default, (low, high), symbol=symbol, unit=unit, meaning=meaning, source=source)


def _fixed(default: float, symbol: str, unit: str, meaning: str) -> Any:
    return parameter(default, symbol=symbol, unit=unit, meaning=meaning, source="Regazzoni 2022")


class FourChamberParameters(AbstractParameters):
    """Parameters of the loop, in mL, mmHg and s.

    A peak elastance is E_A + E_B of the paper. Names without a suffix refer to the left ventricle
    or, like R_s, to the systemic arteries, as in `LeftHeartParameters`. V_0 is the stressed volume
    of the whole loop.
    """

    T_c: Scalar = _free(60 / 72, 0.4, 1.5, "T_c", "s", "heart period")
    V_0: Scalar = _free(
        3002.0, 1400.0, 3400.0, "V_0", "mL", "stressed volume of the loop (sets the filling)"
    )
    E_max: Scalar = _free(2.83, 0.5, 4.0, "E_{max}", _E, "LV free wall, peak elastance")
    E_min: Scalar = _free(0.08, 0.04, 0.2, "E_{min}", _E, "LV free wall, passive elastance")
    E_max_rv: Scalar = _free(0.6, 0.2, 1.5, "E_{max,rv}", _E, "RV free wall, peak elastance")
    E_min_rv: Scalar = _free(0.05, 0.02, 0.15, "E_{min,rv}", _E, "RV free wall, passive elastance")
    R_s: Scalar = _free(0.8, 0.4, 1.8, "R_s", _R, "resistance, systemic arteries to veins")
    R_pa: Scalar = _free(0.1625, 0.03, 0.8, "R_{pa}", _R, "resistance, pulmonary arteries to veins")
    R_pv: Scalar = _free(0.1625, 0.01, 0.2, "R_{pv}", _R, "resistance, pulmonary veins to atrium")
    C_pa: Scalar = _free(10.0, 1.0, 12.0, "C_{pa}", _C, "compliance of the pulmonary arteries")
    source = _GAINS
    E_s: Scalar = parameter(15.0, (5.0, 60.0), _E, "septum, peak elastance")
    E_s_min: Scalar = parameter(0.5, (0.1, 2.0), _E, "septum, passive elastance")
    E_max_la: Scalar = _fixed(0.16, "E_{max,la}", _E, "left atrium, peak elastance")
    E_min_la: Scalar = _fixed(0.09, "E_{min,la}", _E, "left atrium, passive elastance")
    E_max_ra: Scalar = _fixed(0.13, "E_{max,ra}", _E, "right atrium, peak elastance")
    E_min_ra: Scalar = _fixed(0.07, "E_{min,ra}", _E, "right atrium, passive elastance")
    V_d: Scalar = _fixed(5.0, "V_d", "mL", "unstressed volume of the left ventricle")
    V_d_rv: Scalar = _fixed(10.0, "V_{d,rv}", "mL", "unstressed volume of the right ventricle")
    V_d_la: Scalar = _fixed(4.0, "V_{d,la}", "mL", "unstressed volume of the left atrium")
    V_d_ra: Scalar = _fixed(4.0, "V_{d,ra}", "mL", "unstressed volume of the right atrium")
    f_vc: Scalar = _fixed(0.34, "f_{vc}", "", "ventricles' contraction, share of the period")
    f_vr: Scalar = _fixed(0.17, "f_{vr}", "", "ventricles' relaxation, share of the period")
    f_as: Scalar = _fixed(0.80, "f_{as}", "", "when the atria contract, share of the period")
    f_ac: Scalar = _fixed(0.17, "f_{ac}", "", "atria's contraction, share of the period")
    f_ar: Scalar = _fixed(0.17, "f_{ar}", "", "atria's relaxation, share of the period")
    R_m: Scalar = _fixed(0.0075, "R_m", _R, "mitral-valve resistance")
    R_a: Scalar = _fixed(0.0075, "R_a", _R, "aortic-valve resistance")
    R_t: Scalar = _fixed(0.0075, "R_t", _R, "tricuspid-valve resistance")
    R_p: Scalar = _fixed(0.0075, "R_p", _R, "pulmonary-valve resistance")
    R_sv: Scalar = _fixed(0.26, "R_{sv}", _R, "resistance, systemic veins to atrium")
    C_sa: Scalar = _fixed(1.2, "C_{sa}", _C, "compliance of the systemic arteries")
    C_sv: Scalar = _fixed(60.0, "C_{sv}", _C, "compliance of the systemic veins")
    C_pv: Scalar = _fixed(16.0, "C_{pv}", _C, "compliance of the pulmonary veins")


class FourChamberState(NamedTuple):
    """State of the loop; volumes are those above the unstressed volumes."""

    V_la: Scalar
    """Volume of the left atrium [mL]."""
    V_lv: Scalar
    """Volume of the left ventricle, including the volume displaced by the septum [mL]."""
    V_ra: Scalar
    """Volume of the right atrium [mL]."""
    V_rv: Scalar
    """Volume of the right ventricle [mL]."""
    P_ao: Scalar
    """Pressure in the systemic arteries [mmHg]."""
    P_sv: Scalar
    """Pressure in the systemic veins [mmHg]."""
    P_pa: Scalar
    """Pressure in the pulmonary arteries [mmHg]."""
    P_pv: Scalar
    """Pressure in the pulmonary veins [mmHg]."""


class FourChamberOutputs(NamedTuple):
    """Outputs of both sides of the heart, beginning with the fields of `VentricleOutputs`."""

    V_lv: Annotated[Scalar, "mL", "left-ventricular volume"]
    P_lv: Annotated[Scalar, "mmHg", "left-ventricular pressure"]
    P_ao: Annotated[Scalar, "mmHg", "aortic pressure"]
    P_la: Annotated[Scalar, "mmHg", "left-atrial pressure"]
    q_m: Annotated[Scalar, "mL/s", "flow through the mitral valve"]
    q_a: Annotated[Scalar, "mL/s", "flow through the aortic valve"]
    q_s: Annotated[Scalar, "mL/s", "systemic flow, from the arteries to the veins"]
    V_rv: Annotated[Scalar, "mL", "right-ventricular volume"]
    P_rv: Annotated[Scalar, "mmHg", "right-ventricular pressure"]
    V_la: Annotated[Scalar, "mL", "left-atrial volume"]
    V_ra: Annotated[Scalar, "mL", "right-atrial volume"]
    P_ra: Annotated[Scalar, "mmHg", "right-atrial pressure"]
    P_pa: Annotated[Scalar, "mmHg", "pressure in the pulmonary artery"]
    q_t: Annotated[Scalar, "mL/s", "flow through the tricuspid valve"]
    q_p: Annotated[Scalar, "mL/s", "flow through the pulmonary valve"]
    V_s: Annotated[Scalar, "mL", "volume that the septum moves from the left into the right heart"]


SHARES = (61.0, 115.0, 61.0, 135.0, 96.0, 1800.0, 350.0, 384.0)
"""Initial stressed volumes of Regazzoni et al., in the order of the states [mL]."""


RIGHT_READINGS: dict[str, Reading] = {
    "RVEDV": Reading(
        "mL", lambda beat: beat.maximum.V_rv, "largest right-ventricular volume of the beat"
    ),
    "RVESV": Reading(
        "mL", lambda beat: beat.minimum.V_rv, "smallest right-ventricular volume of the beat"
    ),
    "RVEF": Reading(
        "%",
        lambda beat: ejection_fraction(beat.maximum.V_rv, beat.minimum.V_rv),
        "right-ventricular ejection fraction",
    ),
    "P_pa_mean": Reading(
        "mmHg", lambda beat: beat.waveforms.P_pa.mean(-1), "mean pulmonary arterial pressure"
    ),
    "P_ra_mean": Reading(
        "mmHg", lambda beat: beat.waveforms.P_ra.mean(-1), "mean right-atrial pressure"
    ),
}
"""Readings of the right heart, such as a catheter and an MRI scan give."""


class FourChambers(AbstractVentricle[FourChamberState, FourChamberParameters, FourChamberOutputs]):
    """Four chambers, two circulations, four ideal valves and a septum.

    Every wall has the elastance E(t) = E_min + (E_max − E_min) a(t), where a is the
    `cosine_activation` of the ventricles or of the atria. The ventricles have two free walls and
    share the septum:

        P_lv = E_lv (V_lv − V_s)   P_rv = E_rv (V_rv + V_s)   P_lv − P_rv = E_s V_s
        V_s = (E_lv V_lv − E_rv V_rv)/(E_s + E_lv + E_rv)

    With r(u) = max(u, 0), q_m = r(P_la − P_lv)/R_m, and so on around the loop,

        dV_la/dt = (P_pv − P_la)/R_pv − q_m      dV_lv/dt = q_m − q_a
        dV_ra/dt = (P_sv − P_ra)/R_sv − q_t      dV_rv/dt = q_t − q_p
        C_sa dP_ao/dt = q_a − q_s                C_sv dP_sv/dt = q_s − (P_sv − P_ra)/R_sv
        C_pa dP_pa/dt = q_p − (P_pa − P_pv)/R_pa
        C_pv dP_pv/dt = (P_pa − P_pv)/R_pa − (P_pv − P_la)/R_pv.

    The septum is muscle, so it stiffens with the ventricles; if it were as stiff in diastole as in
    systole, the filling of one ventricle would hardly affect the other. At a given V_rv, P_rv
    changes by a share E_rv/(E_s + E_rv) of a change of P_lv: 0.04 in systole and 0.09 in diastole
    with the defaults, where Dickstein, Todaka and Burkhoff, American Journal of Physiology 273,
    1997, found 0.04–0.07 and 0.07–0.19 in dogs. In the opposite direction the share is
    E_lv/(E_s + E_lv), 0.16 and 0.14. The interaction vanishes for E_s → ∞. The free walls have the
    elastances published for the chambers: the septum then bows to the right by 6 mL, which the
    left ventricle gains and the right one loses, while pressures and output change by less than
    0.3 mmHg and 0.01 L/min. The septum is linear, so when one side fails it moves further than a
    real wall can: 30 mL for 15 mmHg in diastole.

    With the published values, aortic pressure is 125/78 mmHg and output 5.4 L/min, but pulmonary
    arterial pressure is 40/35 mmHg: hypertensive, from a pulmonary resistance of 5 Wood units.
    `HEALTHY_LUNGS` lowers it to 23/12 mmHg and hardly changes the left heart.

    240 steps per beat are enough: on 24 points of `BOTH_SIDES`, volumes stay within 0.1 mL and
    pressures within 0.1 mmHg of an independent solver's throughout the beat.
    """

    parameters: ClassVar = FourChamberParameters
    further_readings = RIGHT_READINGS

    def outputs(
        self, t: Scalar, state: FourChamberState, p: FourChamberParameters
    ) -> FourChamberOutputs:
        """Return volumes, pressures and valve flows at time t [s]."""
        T = p.T_c
        ventricles = cosine_activation(t, T, 0.0 * T, p.f_vc * T, p.f_vr * T)
        atria = cosine_activation(t, T, p.f_as * T, p.f_ac * T, p.f_ar * T)
        E_lv = p.E_min + (p.E_max - p.E_min) * ventricles
        E_rv = p.E_min_rv + (p.E_max_rv - p.E_min_rv) * ventricles
        E_s = p.E_s_min + (p.E_s - p.E_s_min) * ventricles
        V_s = (E_lv * state.V_lv - E_rv * state.V_rv) / (E_s + E_lv + E_rv)
        P_lv, P_rv = E_lv * (state.V_lv - V_s), E_rv * (state.V_rv + V_s)
        P_la = (p.E_min_la + (p.E_max_la - p.E_min_la) * atria) * state.V_la
        P_ra = (p.E_min_ra + (p.E_max_ra - p.E_min_ra) * atria) * state.V_ra
        return FourChamberOutputs(
            V_lv=state.V_lv + p.V_d,
            P_lv=P_lv,
            P_ao=state.P_ao,
            P_la=P_la,
            q_m=ideal_valve(P_la, P_lv, p.R_m),
            q_a=ideal_valve(P_lv, state.P_ao, p.R_a),
            q_s=(state.P_ao - state.P_sv) / p.R_s,
            V_rv=state.V_rv + p.V_d_rv,
            P_rv=P_rv,
            V_la=state.V_la + p.V_d_la,
            V_ra=state.V_ra + p.V_d_ra,
            P_ra=P_ra,
            P_pa=state.P_pa,
            q_t=ideal_valve(P_ra, P_rv, p.R_t),
            q_p=ideal_valve(P_rv, state.P_pa, p.R_p),
            V_s=V_s,
        )

    def vector_field(
        self, t: Scalar, state: FourChamberState, p: FourChamberParameters
    ) -> FourChamberState:
        """Evaluate the loop's equations; see the class."""
        out = self.outputs(t, state, p)
        q_sv = (state.P_sv - out.P_ra) / p.R_sv
        q_pa = (state.P_pa - state.P_pv) / p.R_pa
        q_pv = (state.P_pv - out.P_la) / p.R_pv
        return FourChamberState(
            V_la=q_pv - out.q_m,
            V_lv=out.q_m - out.q_a,
            V_ra=q_sv - out.q_t,
            V_rv=out.q_t - out.q_p,
            P_ao=(out.q_a - out.q_s) / p.C_sa,
            P_sv=(out.q_s - q_sv) / p.C_sv,
            P_pa=(out.q_p - q_pa) / p.C_pa,
            P_pv=(q_pa - q_pv) / p.C_pv,
        )

    def divert(
        self, rates: FourChamberState, flow: Scalar, p: FourChamberParameters
    ) -> FourChamberState:
        """See `AbstractVentricle`."""
        return rates._replace(V_lv=rates.V_lv - flow, P_ao=rates.P_ao + flow / p.C_sa)

    def initial_state(self, p: FourChamberParameters) -> FourChamberState:
        """Return V_0 divided among the compartments in proportion to `SHARES`."""
        V = FourChamberState(*(p.V_0 * (share / sum(SHARES)) for share in SHARES))
        return V._replace(
            P_ao=V.P_ao / p.C_sa, P_sv=V.P_sv / p.C_sv, P_pa=V.P_pa / p.C_pa, P_pv=V.P_pv / p.C_pv
        )

    def period(self, p: FourChamberParameters) -> Scalar:
        """Return the heart period T_c [s]."""
        return p.T_c

    def conserved(self, state: FourChamberState, p: FourChamberParameters) -> tuple[Scalar, ...]:
        """Return the stressed volume V_0 of the closed loop [mL]."""
        chambers = state.V_la + state.V_lv + state.V_ra + state.V_rv
        systemic = p.C_sa * state.P_ao + p.C_sv * state.P_sv
        return (chambers + systemic + p.C_pa * state.P_pa + p.C_pv * state.P_pv,)

    def scaling(self, p: FourChamberParameters) -> tuple[FourChamberOutputs, FourChamberOutputs]:
        """Return the offset and scale of every output.

        As in `LeftHeart`, all stressed volumes, pressures and flows are proportional to V_0 and
        independent of the unstressed volumes. A ventricle holds about 1/20 of V_0.
        """
        zero = 0.0 * p.V_0
        V = p.V_0 / 20
        P, q = p.V_0 / (p.C_sa + p.C_sv + p.C_pa + p.C_pv), V / p.T_c
        offset = FourChamberOutputs(*(zero for _ in FourChamberOutputs._fields))._replace(
            V_lv=p.V_d + zero, V_rv=p.V_d_rv + zero, V_la=p.V_d_la + zero, V_ra=p.V_d_ra + zero
        )
        kinds = {"V": V, "P": P, "q": q}
        scale = FourChamberOutputs(**{name: kinds[name[0]] for name in FourChamberOutputs._fields})
        return offset, scale._replace(V_s=V / 10)


HEALTHY_LUNGS = {"R_pa": 0.06, "R_pv": 0.03, "C_pa": 4.0, "V_0": 2400.0}
"""Parameter values that give the pulmonary pressures of a healthy adult."""

BOTH_SIDES = Box.of(
    FourChamberParameters,
    ("T_c", "V_0", "E_max", "E_min", "E_max_rv", "R_s", "R_pa", "R_pv", "C_pa"),
)
"""Box for a twin of both sides: healthy lungs to pulmonary hypertension, failure of either side."""
