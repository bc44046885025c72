"""In-silico trials of patients who are known by their posteriors.

    trial = run_posterior_trial(posterior, {"control": Nothing(), "pump": Pump(9_000.0)})
    trial.effects("output", control="control")
    trial.patient_effects("output", "pump", control="control").positive  # [patient]

Every draw of every patient receives every treatment, so a patient's effect is a distribution. Draws
whose simulation fails in an arm are left out of both sides of that arm's differences, and counted.
"""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jax.sharding import Mesh
from jaxtyping import Bool, Float, Int

from jaxtwin.analysis.metrics import mean_over_draws
from jaxtwin.cohorts.batching import Progress
from jaxtwin.cohorts.simulate import check_whole
from jaxtwin.methods.posterior import Posterior
from jaxtwin.models.intervention import AbstractIntervention
from jaxtwin.physics.solution import Event, Reading
from jaxtwin.treatments.effects import AbstractTrial, Effect
from jaxtwin.treatments.trials import plan_trial, simulate_arms


class PatientEffects(NamedTuple):
    """Effect of an arm compared with the control, in each patient.

    Attributes:
        mean: Mean over the patient's draws, in the endpoint's unit; NaN if none can be used.
        low: Lower bound of the central interval.
        high: Upper bound of the central interval.
        positive: Probability that the effect is greater than 0.
        draws: Number of draws that succeeded in both arms.
    """

    mean: Float[np.ndarray, " patient"]
    low: Float[np.ndarray, " patient"]
    high: Float[np.ndarray, " patient"]
    positive: Float[np.ndarray, " patient"]
    draws: Int[np.ndarray, " patient"]


@dataclasses.dataclass(frozen=True)
class PosteriorTrial(AbstractTrial):
    """Results of a trial of posteriors: endpoints of every draw of every patient in every arm.

    Means of effects are over each patient's draws, then over patients. The interval of a difference
    contains the sampling of patients and what is not known of each, see `mean_over_draws`; the
    standard deviation that standardises it is that of all patients' draws together. Patients none
    of whose draws can be used have failed.

    Attributes:
        posterior: The patients, with the draws that were simulated.
        arms: Names of the arms, in the order of the arrays' first axis.
        endpoints: Endpoints by name, with their units.
        values: Value of each endpoint, by name; NaN if the simulation failed or there is no
            posterior.
        success: Whether the simulation can be used; see `Effect` for reasons why not.
        safety: Definitions of the safety events, by name.
    """

    posterior: Posterior
    arms: tuple[str, ...]
    endpoints: dict[str, Reading]
    values: dict[str, Float[np.ndarray, "arm patient draw"]]
    success: Bool[np.ndarray, "arm patient draw"]
    safety: dict[str, Event]

    def __repr__(self) -> str:
        """Return a line instead of all the numbers."""
        _, patients, draws = self.success.shape
        return (
            f"PosteriorTrial({patients} patients, {np.sum(self.posterior.success)} of them with a "
            f"posterior of {draws} draws, in the arms {', '.join(map(repr, self.arms))}; "
            f"endpoints: {', '.join(self.endpoints)})"
        )

    @property
    def units(self) -> dict[str, str]:
        """Unit of each endpoint, by name."""
        return {name: reading.unit for name, reading in self.endpoints.items()}

    def arm(self, arm: str) -> dict[str, Float[np.ndarray, "patient draw"]]:
        """Return the endpoints of one arm.

        Raises:
            ValueError: If there is no such arm.
        """
        return {name: values[self._index(arm)] for name, values in self.values.items()}

    def patient_effects(
        self, endpoint: str, arm: str, *, control: str, level: float = 0.9
    ) -> PatientEffects:
        """Compute each patient's effect of an arm on an endpoint.

        Args:
            endpoint: Name of the endpoint.
            arm: Name of the arm.
            control: Name of the control arm.
            level: Probability that the central interval holds.

        Raises:
            ValueError: If there is no such arm or endpoint, or the level is not between 0 and 1.
        """
        if not 0 < level < 1:
            raise ValueError(f"level={level}: expected a probability between 0 and 1, such as 0.9")
        change = self._values(endpoint, arm) - self._values(endpoint, control)
        usable = np.isfinite(change)
        draws = usable.sum(axis=1)
        some = draws > 0
        found = np.full((4, len(change)), np.nan)
        if some.any():
            outer = [(1 - level) / 2, (1 + level) / 2]
            found[0, some] = np.nanmean(change[some], axis=1)
            found[1:3, some] = np.nanquantile(change[some], outer, axis=1)
            found[3, some] = np.sum(change[some] > 0, axis=1) / draws[some]
        mean, low, high, positive = found
        return PatientEffects(mean, low, high, positive, draws)

    def event_probabilities(self) -> dict[str, dict[str, Float[np.ndarray, " patient"]]]:
        """Return the probability of each safety event in each patient, by arm.

        They are shares of the patient's draws that can be used, NaN if there are none. "failed" is
        the share of the draws that cannot, 1 for a patient without a posterior.
        """
        table = {}
        for i, arm in enumerate(self.arms):
            usable = self.success[i]
            shares = {"failed": 1 - usable.mean(axis=1)}
            for name, event in self.safety.items():
                values = self.values[event.reading][i]
                outside = (values < event.low) | (values > event.high)
                shares[name] = _mean(np.where(usable, outside, np.nan))
            table[arm] = shares
        return table

    def _patients(
        self, arm: str
    ) -> tuple[dict[str, Float[np.ndarray, " patient"]], Bool[np.ndarray, " patient"]]:
        means = {name: _mean(values) for name, values in self.arm(arm).items()}
        return means, self.success[self._index(arm)].any(axis=1)

    def _effect(
        self,
        names: tuple[str, str, str],
        before: Float[np.ndarray, "patient draw"],
        after: Float[np.ndarray, "patient draw"],
        seed: int,
    ) -> Effect:
        both = np.isfinite(before) & np.isfinite(after)
        change = np.where(both, after - before, np.nan)
        kept = both.any(axis=1)
        # Each patient has the same weight, however many draws are left.
        weights = (both / np.maximum(both.sum(axis=1, keepdims=True), 1))[kept]
        difference = mean_over_draws(change, seed=seed)
        n = int(kept.sum())
        spread = 0.0
        if n > 1:
            squares = np.sum(weights * (change[kept] - difference.mean) ** 2, where=both[kept])
            spread = float(np.sqrt(squares / (n - 1)))
        return Effect(
            *names,
            len(before),
            len(before) - n,
            float(np.mean(_mean(np.where(both, before, np.nan))[kept])) if n else np.nan,
            float(np.mean(_mean(np.where(both, after, np.nan))[kept])) if n else np.nan,
            difference,
            difference.mean / spread if spread > 0 else np.nan,
            float(1 - both[kept].mean()) if n else np.nan,
        )


def run_posterior_trial(
    posterior: Posterior,
    arms: Mapping[str, AbstractIntervention],
    endpoints: Mapping[str, Reading] | None = None,
    *,
    draws: int | None = None,
    safety: Mapping[str, Event] | None = None,
    steps: int | None = None,
    folder: str | Path | None = None,
    mesh: Mesh | None = None,
    progress: Callable[[str], Progress] | None = None,
) -> PosteriorTrial:
    """Simulate every draw of every patient's posterior in every arm.

    Arguments, warnings and errors that are not listed are those of `run_trial`.

    Args:
        posterior: The patients; those without a posterior have failed in every arm.
        arms: Interventions by name, including the control, such as `Nothing()`.
        endpoints: Endpoints by name; by default the readings of the systems of all arms.
        draws: Number of draws of each patient to simulate, the first ones; by default all.
        safety: Safety events by name; see `run_trial`.
        steps: Number of solver steps in every arm; see `run_trial`.
        folder: Folder in which to save finished arms; see `run_trial`.
        mesh: Devices to use, see `map_patients`.
        progress: Function from the name of an arm to a wrapper of its chunks, see `map_patients`.

    Raises:
        ValueError: If no patient has a posterior, there are fewer draws, or as in `run_trial`.
    """
    if not isinstance(posterior, Posterior):
        raise ValueError(
            f"run_posterior_trial got {type(posterior).__name__}: expected a posterior first, "
            "learnt.posterior(measurements); cohorts are for run_trial"
        )
    patients, drawn, free = posterior.theta.shape
    some = drawn if draws is None else draws
    check_whole(draws=some)
    if some > drawn:
        raise ValueError(f"{some} draws to simulate, and the posterior has {drawn}")
    known = np.asarray(posterior.success)
    if not known.any():
        raise ValueError(f"none of the {patients} patients has a posterior (`success` is False)")
    posterior = posterior._replace(theta=posterior.theta[:, :some])
    theta = np.asarray(posterior.theta[known].reshape(-1, free), np.float32)
    plan = plan_trial(posterior.system, posterior.box, theta[0], arms, endpoints, safety, steps)
    found = simulate_arms(plan, theta, folder=folder, mesh=mesh, progress=progress, rows="draws")

    def shaped(flat: np.ndarray, missing: float | bool) -> np.ndarray:
        full = np.full((len(flat), patients, some), missing, flat.dtype)
        full[:, known] = flat.reshape(len(flat), -1, some)
        return full

    values = {name: shaped(flat, np.nan) for name, flat in found.values.items()}
    success = shaped(found.success, False)
    return PosteriorTrial(posterior, tuple(arms), plan.endpoints, values, success, plan.safety)


def _mean(values: Float[np.ndarray, "patient draw"]) -> Float[np.ndarray, " patient"]:
    """Return the mean over each patient's draws that are not NaN; NaN if there are none."""
    usable = np.isfinite(values)
    counts = usable.sum(axis=1)
    total = np.sum(values, axis=1, where=usable)
    return np.divide(total, counts, out=np.full(len(values), np.nan), where=counts > 0)
