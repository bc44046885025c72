"""The patients of an echocardiography laboratory, as a population to draw cohorts from."""

from jaxtwin.cohorts.population import Marginal, Population

_Z = {0.01: -2.326, 0.05: -1.645, 0.25: -0.674, 0.5: 0.0, 0.75: 0.674, 0.95: 1.645, 0.99: 2.326}
"""Quantiles of the standard normal distribution."""


def _normal(mean: float, deviation: float, low: float, high: float) -> dict[float, float]:
    return {0.0: low} | {p: mean + deviation * z for p, z in _Z.items()} | {1.0: high}


def _quantiles(*values: float | int) -> dict[float, float]:
    return dict(zip((0.0, *_Z, 1.0), map(float, values), strict=True))


_ECHONET = (
    "10,030 patients of EchoNet-Dynamic (Ouyang et al., Nature 580, 2020); the extremes are rounded"
)
_MONICA = (
    "WHO MONICA Project, Population Survey Data Book, tables 6.1.2 and 6.1.3: {}, men of 35 to 64 "
    "years in Newcastle, taken as normally distributed"
)
_RATE = _normal(79.1, 14.5, 35.0, 180.0)

ECHO_LABORATORY = Population(
    "an echocardiography laboratory",
    {
        "EDV": Marginal(_quantiles(13, 29, 40, 62, 82, 108, 173, 262, 700), _ECHONET),
        "ESV": Marginal(_quantiles(4, 9, 14, 24, 34, 49, 108, 193, 620), _ECHONET),
        "EF": Marginal(_quantiles(6, 17.9, 27.9, 51.6, 59.2, 64.0, 69.1, 74.3, 88), _ECHONET),
        "stroke_volume": Marginal(_quantiles(6, 16, 23, 35, 45, 58, 81, 106, 200), _ECHONET),
        "period": Marginal(
            {1 - p: 60 / rate for p, rate in reversed(_RATE.items())},
            "79.1 ± 14.5 beats a minute, taken as normally distributed: Avram et al., npj Digital "
            "Medicine 2, 2019",
        ),
        "systolic": Marginal(
            _normal(132.2, 17.8, 70.0, 220.0), _MONICA.format("132.2 ± 17.8 mmHg")
        ),
        "diastolic": Marginal(_normal(83.4, 10.4, 35.0, 135.0), _MONICA.format("83.4 ± 10.4 mmHg")),
        "P_la_mean": Marginal(
            {0: 1, 0.05: 4, 0.25: 7, 0.5: 9, 0.75: 13, 0.95: 21, 1: 40},
            "assumed: from normal (4 to 12 mmHg) to pulmonary congestion",
        ),
    },
    {
        ("EDV", "EF"): -0.42,
        ("EDV", "stroke_volume"): 0.79,
        # Assumed: the pressures of one person rise together.
        ("systolic", "diastolic"): 0.6,
    },
)
"""Patients of an adult echocardiography laboratory: volumes as EchoNet-Dynamic has them, heart
rates and arterial pressures of adults. How volumes and pressures go together is not prescribed."""
