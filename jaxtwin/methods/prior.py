"""The prior: a baseline for parameters and pressures that uses no measurement."""

from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from jaxtwin.cohorts.simulate import simulate_cohort
from jaxtwin.methods.base import AbstractMethod, Estimate, Learnt, Sees, Session
from jaxtwin.methods.tasks import Curves, CurveTask


class BoxMiddle(AbstractMethod[CurveTask, Curves]):
    """The middle of the box for every patient, except for the known parameters."""

    sees: ClassVar = Sees("curve", labels=False, cohort=False, physics=True, gaps=True)

    def prepare(
        self,
        task: CurveTask,
        training: Curves | None,
        validation: Curves | None,
        session: Session,
    ) -> Learnt[CurveTask, Curves]:
        """Learn nothing; see `AbstractMethod`."""
        del training, validation, session

        def answer(curves: Curves) -> Estimate:
            known = jnp.asarray(curves.known)
            raw = jnp.zeros((len(known), len(task.box.names)), jnp.float32)
            theta = np.asarray(jax.vmap(task.theta)(raw, known))
            cohort = simulate_cohort(task.system, task.box, theta, phases=task.samples)
            return task.estimate_from(cohort.recording, theta, cohort.success)

        return Learnt(self, task, answer, fits=False)
