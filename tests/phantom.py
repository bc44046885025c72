"""A beat to render phantoms of, in closed form."""

import numpy as np

from jaxtwin.data.phantom.heart import PhantomBeat

PHASES = 64


def make_beat(end_diastolic=120.0, ejection_fraction=60.0, period=0.9):
    """Half a sine of ejection, a burst of early filling, then slow filling."""
    step = period / PHASES
    time = np.arange(PHASES) * step
    end_systole = 0.2 + 0.15 * period
    stroke = end_diastolic * ejection_fraction / 100
    ejection = np.where(time < end_systole, np.sin(np.pi * time / end_systole), 0)
    since = np.maximum(time - end_systole - 0.07, 0)
    filling = since / 0.06 * np.exp(1 - since / 0.06) + 0.1 * (since > 0)
    ejection *= stroke / (ejection.sum() * step)
    filling *= stroke / (filling.sum() * step)
    volume = end_diastolic + np.cumsum(filling - ejection) * step
    volume += end_diastolic - volume.max()
    leaves = (volume, filling, ejection, np.asarray(period))
    return PhantomBeat(*(leaf.astype(np.float32) for leaf in leaves))
