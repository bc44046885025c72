"""What follows from the results of a trial: effects of the arms, within patients, and events."""

import abc
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from jaxtwin.analysis.metrics import Interval, mean_with_interval
from jaxtwin.physics.solution import Event


class Effect(NamedTuple):
    """Effect of an arm compared with the control, over patients successful in both.

    Attributes:
        arm: Name of the arm.
        endpoint: Name of the endpoint.
        group: Name of the subgroup of patients; "all" for all patients.
        patients: Number of patients in the group.
        failed: Number of patients left out because the simulation failed in one of the two arms:
            no recording was found, the treated system reports it as infeasible, or the arm's law
            has no dose for the patient. They are not a random sample: if many failed in an arm,
            compare it with the others on the same patients.
        control: Mean in the control arm.
        treated: Mean in the arm.
        difference: Mean of the differences within patients, with its bootstrap interval.
        standardised: Mean difference divided by the standard deviation of the differences; NaN if
            all differences are equal.
        failed_draws: Share of the other patients' draws that were left out for the same reasons, in
            a trial of posteriors; see `PosteriorTrial`.
    """

    arm: str
    endpoint: str
    group: str
    patients: int
    failed: int
    control: float
    treated: float
    difference: Interval
    standardised: float
    failed_draws: float = 0.0


class AbstractTrial(abc.ABC):
    """Results of a trial, of patients or of their posteriors, in memory or on disk.

    Attributes:
        arms: Names of the arms, in the order of the arrays' first axis.
    """

    arms: tuple[str, ...]

    @abc.abstractmethod
    def arm(self, arm: str) -> Mapping[str, Float[np.ndarray, "patient *draw"]]:
        """Return the endpoints of one arm.

        Raises:
            ValueError: If there is no such arm.
        """

    def effects(
        self,
        endpoint: str,
        *,
        control: str,
        by: Callable[[Mapping[str, np.ndarray]], Sequence[str]] | None = None,
        seed: int = 0,
    ) -> list[Effect]:
        """Compute the paired effect of each arm other than the control on an endpoint.

        Two arms at a time are in memory.

        Args:
            endpoint: Name of the endpoint.
            control: Name of the control arm.
            by: Function from the control arm's endpoints (of posteriors: averaged over each
                patient's draws) to the name of each patient's subgroup, such as `ef_level`; effects
                are then also computed for the subgroups.
            seed: Seed for the bootstrap.

        Raises:
            ValueError: If there is no such arm or endpoint, or `by` does not return a subgroup for
                each patient.
        """
        before = self._values(endpoint, control)
        groups = {"all": np.ones(len(before), bool)}
        if by is not None:
            groups |= subgroups(by, *self._patients(control))
        found = []
        for arm in self.arms:
            if arm == control:
                continue
            after = self._values(endpoint, arm)
            found += [
                self._effect((arm, endpoint, name), before[inside], after[inside], seed)
                for name, inside in groups.items()
            ]
        return found

    @abc.abstractmethod
    def _patients(
        self, arm: str
    ) -> tuple[Mapping[str, Float[np.ndarray, " patient"]], Bool[np.ndarray, " patient"]]:
        """Return each patient's endpoints in an arm, and whether they can be used."""

    @abc.abstractmethod
    def _effect(
        self, names: tuple[str, str, str], before: np.ndarray, after: np.ndarray, seed: int
    ) -> Effect:
        """Return the effect, given the names of arm, endpoint and group, and their patients."""

    def _index(self, arm: str) -> int:
        if arm not in self.arms:
            raise ValueError(f"no arm {arm!r}: the trial has {', '.join(self.arms)}")
        return self.arms.index(arm)

    def _values(self, endpoint: str, arm: str) -> np.ndarray:
        endpoints = self.arm(arm)
        if not isinstance(endpoint, str) or endpoint not in endpoints:
            raise ValueError(f"no endpoint {endpoint!r}: there are {', '.join(endpoints)}")
        return endpoints[endpoint]


class AbstractPatientTrial(AbstractTrial):
    """Results of a trial of patients, each of whom has one value of an endpoint in an arm.

    Attributes:
        safety: Definitions of the safety events, by name.
    """

    safety: dict[str, Event]

    @abc.abstractmethod
    def _succeeded(self, arm: str) -> Bool[np.ndarray, " patient"]:
        """Return whether the simulation of each patient in an arm can be used."""

    def events(self) -> dict[str, dict[str, int]]:
        """Count the patients with each safety event, by arm, and the "failed" ones without data."""
        table = {}
        for arm in self.arms:
            endpoints, usable = self._patients(arm)
            counts = {"failed": int((~usable).sum())}
            for name, event in self.safety.items():
                values = endpoints[event.reading]
                outside = (values < event.low) | (values > event.high)
                counts[name] = int(np.sum(outside & usable))
            table[arm] = counts
        return table

    def _patients(
        self, arm: str
    ) -> tuple[Mapping[str, Float[np.ndarray, " patient"]], Bool[np.ndarray, " patient"]]:
        return self.arm(arm), self._succeeded(arm)

    def _effect(
        self,
        names: tuple[str, str, str],
        before: Float[np.ndarray, " patient"],
        after: Float[np.ndarray, " patient"],
        seed: int,
    ) -> Effect:
        both = np.isfinite(before) & np.isfinite(after)
        change = (after - before)[both]
        spread = np.std(change, ddof=1) if len(change) > 1 else 0.0
        return Effect(
            *names,
            len(both),
            int((~both).sum()),
            float(np.mean(before[both])) if both.any() else np.nan,
            float(np.mean(after[both])) if both.any() else np.nan,
            mean_with_interval(change, seed=seed),
            float(np.mean(change) / spread) if spread > 0 else np.nan,
        )


def subgroups(
    by: Any,
    endpoints: Mapping[str, Float[np.ndarray, " patient"]],
    known: Bool[np.ndarray, " patient"],
) -> dict[str, Bool[np.ndarray, " patient"]]:
    """Return who is in each subgroup, by its name.

    Args:
        by: Function from the endpoints to the name of each patient's subgroup.
        endpoints: Endpoints of the control arm, by name.
        known: Whether a patient's endpoints can be used; the others are in no subgroup.

    Raises:
        ValueError: If `by` is not a function, or does not return a subgroup for each patient.
    """
    if not callable(by):
        raise ValueError(
            f"by={by!r}: expected a function from the control arm's endpoints to the name of "
            "each patient's subgroup, such as jaxtwin.treatments.ef_level"
        )
    level = np.asarray(by(endpoints))
    if level.shape != known.shape:
        raise ValueError(
            f"`by` gives shape {level.shape}: expected one name for each of the {len(known)} "
            "patients"
        )
    return {str(name): known & (level == name) for name in sorted(set(level[known]))}
