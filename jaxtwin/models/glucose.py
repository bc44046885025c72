"""Minimal model of glucose and insulin in an intravenous glucose tolerance test.

Glucose: Bergman, Ider, Bowden and Cobelli, "Quantitative estimation of insulin sensitivity",
American Journal of Physiology 236, 1979. Insulin: Toffolo, Bergman, Finegood, Bowden and Cobelli,
"Quantitative estimation of beta cell sensitivity to glucose in the intact organism", Diabetes 29,
1980; Bergman, Phillips and Cobelli, Journal of Clinical Investigation 68, 1981. Insulin is given
as in the modified test of Finegood, Hramiak and Dupre, Journal of Clinical Endocrinology and
Metabolism 70, 1990.

Time is in minutes, not seconds; glucose is in mg/dL, insulin in µU/mL.
"""

from collections.abc import Mapping
from typing import Annotated, ClassVar, NamedTuple

import jax.numpy as jnp

from jaxtwin.parameters import AbstractParameters, Box, Scalar, parameter
from jaxtwin.physics.base import AbstractRecordedSystem
from jaxtwin.physics.solution import Reading

_PACINI = (
    "default between 16 healthy adults (Pacini et al., American Journal of Physiology 274, 1998: "
    "{}) and larger groups; the bounds reach down to type-2 diabetes"
)
_FASTING = "a healthy adult's; the bounds reach to type-2 diabetes"
_FIT = "typical of fits to healthy adults; the bounds reach to type-2 diabetes"
_PROTOCOL = "the insulin-modified test"


class GlucoseParameters(AbstractParameters):
    """Parameters of the patient, then of the test. Rates are per minute."""

    source = _FIT
    S_G: Scalar = parameter(
        0.025,
        (0.005, 0.045),
        "min⁻¹",
        "glucose effectiveness: rate of return to G_b at basal insulin",
        source=_PACINI.format("0.026 – 0.036"),
    )
    S_I: Scalar = parameter(
        4e-4,
        (0.2e-4, 10e-4),
        "min⁻¹/(µU/mL)",
        "insulin sensitivity",
        source=_PACINI.format("7.0e-4"),
    )
    p_2: Scalar = parameter(
        0.03, (0.01, 0.1), "min⁻¹", "rate at which insulin's action rises and decays"
    )
    G_b: Scalar = parameter(90.0, (65.0, 200.0), "mg/dL", "fasting glucose", source=_FASTING)
    I_b: Scalar = parameter(8.0, (2.0, 30.0), "µU/mL", "fasting insulin", source=_FASTING)
    n: Scalar = parameter(0.27, (0.1, 0.4), "min⁻¹", "clearance rate of insulin")
    I_first: Scalar = parameter(
        250.0,
        (0.0, 500.0),
        "µU/mL",
        "insulin above I_b at t = 0 (first phase of secretion)",
        symbol="I_1",
    )
    gamma: Scalar = parameter(
        0.004, (0.0, 0.01), "µU/mL·min⁻²/(mg/dL)", "second phase of secretion"
    )
    h: Scalar = parameter(
        0.0,
        (0.0, 30.0),
        "mg/dL",
        "glucose threshold of the second phase, above G_b",
        source="near G_b in fits of healthy adults",
    )
    G_bolus: Scalar = parameter(
        200.0,
        (100.0, 320.0),
        "mg/dL",
        "glucose above G_b at t = 0",
        symbol="\\Delta G",
        source="0.3 g/kg in 1.5 dL/kg; the bounds are wide around it",
    )
    dose: Scalar = parameter(
        30.0,
        (0.0, 60.0),
        "mU/kg",
        "insulin dose; 0 in the standard test",
        symbol="D",
        source=_PROTOCOL,
    )
    V_I: Scalar = parameter(
        0.08,
        (0.04, 0.16),
        "L/kg",
        "distribution volume of the insulin dose",
        source="about twice the plasma's; the bounds are wide around it",
    )
    t_dose: Scalar = parameter(
        20.0, None, "min", "start of the insulin injection", symbol="t_D", source=_PROTOCOL
    )
    T_dose: Scalar = parameter(
        3.0,
        None,
        "min",
        "duration of the insulin injection",
        symbol="T_D",
        source="a slow injection; protocols differ",
    )
    T: Scalar = parameter(180.0, None, "min", "duration of the test", source=_PROTOCOL)


class GlucoseState(NamedTuple):
    """State of the model, and its outputs."""

    G: Annotated[Scalar, "mg/dL", "glucose in plasma"]
    X: Annotated[Scalar, "min⁻¹", "action of insulin in a remote compartment"]
    I: Annotated[Scalar, "µU/mL", "insulin in plasma"]  # noqa: E741


class GlucoseTest(AbstractRecordedSystem[GlucoseState, GlucoseParameters, GlucoseState]):
    """The minimal model after a bolus of glucose at t = 0, with insulin given at t_dose.

    From G(0) = G_b + G_bolus, X(0) = 0 and I(0) = I_b + I_first, with r(u) = max(u, 0) and
    u(t) = dose/(V_I T_dose) from t_dose to t_dose + T_dose, 0 elsewhere:

        dG/dt = −(S_G + X) G + S_G G_b
        dX/dt = −p_2 X + p_2 S_I (I − I_b)
        dI/dt = −n (I − I_b) + γ r(G − G_b − h) t + u(t)

    t is in minutes. The papers' p_3 is p_2 S_I, and their threshold of the second phase is
    G_b + h: because h is measured from G_b, fasting is an equilibrium for every patient.

    The factor t makes the second phase grow with the time since the bolus. It restricts the model
    to a single bolus at t = 0, and secretion grows without bound where glucose stays above the
    threshold: De Gaetano and Arino, Journal of Mathematical Biology 40, 2000. There is no
    counter-regulation of low glucose (no glucagon).
    """

    parameters: ClassVar = GlucoseParameters
    time_unit: ClassVar = "min"

    def vector_field(self, t: Scalar, state: GlucoseState, p: GlucoseParameters) -> GlucoseState:
        """Return the rates of change per minute at t [min]; see the class."""
        given = jnp.where((t >= p.t_dose) & (t < p.t_dose + p.T_dose), p.dose, 0.0)
        second = p.gamma * jnp.maximum(state.G - p.G_b - p.h, 0.0) * t
        return GlucoseState(
            G=p.S_G * (p.G_b - state.G) - state.X * state.G,
            X=p.p_2 * (p.S_I * (state.I - p.I_b) - state.X),
            I=p.n * (p.I_b - state.I) + second + given / (p.V_I * p.T_dose),
        )

    def initial_state(self, p: GlucoseParameters) -> GlucoseState:
        """Return the state after the bolus and the first secretion phase, before insulin acts."""
        return GlucoseState(p.G_b + p.G_bolus, 0.0 * p.S_I, p.I_b + p.I_first)

    def outputs(self, t: Scalar, state: GlucoseState, p: GlucoseParameters) -> GlucoseState:
        """Return the state itself, of which glucose and insulin can be measured."""
        del t, p
        return state

    def duration(self, p: GlucoseParameters) -> Scalar:
        """Return the duration T of the test [min]."""
        return p.T

    def discontinuities(self, p: GlucoseParameters) -> tuple[Scalar, ...]:
        """Return the start and end of the insulin injection [min]."""
        return (p.t_dose, p.t_dose + p.T_dose)

    def readings(self) -> Mapping[str, Reading]:
        """Return the highest, lowest and mean glucose, and the highest and mean insulin."""
        return {
            "G_max": Reading("mg/dL", lambda test: test.maximum.G),
            "G_min": Reading("mg/dL", lambda test: test.minimum.G),
            "G_mean": Reading("mg/dL", lambda test: test.waveforms.G.mean(-1)),
            "I_max": Reading("µU/mL", lambda test: test.maximum.I),
            "I_mean": Reading("µU/mL", lambda test: test.waveforms.I.mean(-1)),
        }

    def limits(self) -> Mapping[str, tuple[float, float]]:
        """Return the lowest glucose that a patient tolerates."""
        return {"G_min": (40.0, float("inf"))}

    def scaling(self, p: GlucoseParameters) -> tuple[GlucoseState, GlucoseState]:
        """Return offset and scale: G_b for glucose, S_G for X, insulin's rise in the test for I."""
        zero = 0.0 * p.G_b
        insulin = p.I_b + p.I_first + p.dose / p.V_I
        return GlucoseState(p.G_b + zero, zero, p.I_b + zero), GlucoseState(p.G_b, p.S_G, insulin)


TWIN = Box.of(GlucoseParameters, ("S_G", "S_I", "p_2", "G_b", "I_b", "I_first", "gamma", "G_bolus"))
"""Box for a patient's twin. The dose is known from the test; n, h and V_I are assumed.

The box is wider than the real population, in which patients sensitive to insulin secrete little.
Where sensitivity and secretion are both high, glucose falls below what a patient tolerates;
`G_min` shows it."""
