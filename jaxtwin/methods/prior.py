"""What is known of a patient before any measurement: a yardstick for parameters and pressures."""

from pathlib import Path
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from jaxtwin.cohorts.simulate import simulate_cohort
from jaxtwin.methods.base import AbstractCurveMethod, Curves, CurveTask, Estimate, Learnt, Sees
from jaxtwin.physics.channels import select


class BoxMiddle(AbstractCurveMethod):
    """The middle of the box for everyone, with the known parameters in their places."""

    sees: ClassVar = Sees("curve", labels=False, cohort=False, physics=True)

    def learn(
        self, task: CurveTask, training: Curves, validation: Curves, *, folder: Path, seed: int
    ) -> Learnt:
        """Nothing to learn; see `AbstractCurveMethod`."""
        del training, validation, folder, seed

        def answer(curves: Curves) -> Estimate:
            raw = jnp.zeros((len(curves.known), len(task.box.names)), jnp.float32)
            theta = np.asarray(jax.vmap(task.theta)(raw, jnp.asarray(curves.known)))
            cohort = simulate_cohort(task.system, task.box, theta, phases=task.samples)
            return Estimate(select(task.channels, cohort.recording), theta, cohort.success)

        return Learnt(answer)
