"""Phantom clips: how much smaller is the error if the least certain twins are refused?"""

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from experiments.calibration.clips import phantom_clips
from jaxtwin.commands.curve_scores import rank
from jaxtwin.twin.echo import as_curves, estimate, periods

FIFTHS = 5
DRAWS = 200
RESAMPLES = 2_000


def refuse_the_least_certain(trained: Path, seed: int = 0) -> dict[str, Any]:
    """Sort the unseen phantom clips of a training run by the uncertainty of EF that twins state.

    The uncertainty is the standard deviation of EF over the draws of the posterior, where the size
    of a pixel is known; the error is that of the twin's own EF.

    Args:
        trained: Folder of the training run.
        seed: Seed of the draws and of the bootstrap.

    Returns:
        Errors of EF [points]: of all clips with a curve, of each fifth by uncertainty, of the most
        certain four fifths; how much smaller the latter is [%], with a 95% interval (bootstrap
        over clips), and how much smaller it would be if the largest errors were known; rank
        correlation of uncertainty and error; and both for every clip. Empty if fewer than ten
        unseen clips have a curve.

    Raises:
        ValueError: If the folder holds no finished run on volume curves.
    """
    builder, test, _ = phantom_clips(trained, "test")
    task = builder.learnt.task
    clips = test.take(test.measured.found(True, periods(task)))
    if len(clips.theta) < 2 * FIFTHS:
        return {}
    curves = clips.measured.curves(builder.calibrations[0], True)
    EF = 100 * (1 - clips.volumes.min(axis=1) / clips.volumes.max(axis=1))
    error = np.abs(estimate(builder.learnt, curves).readings["EF"] - EF)
    posterior = builder.posteriors[0].posterior(as_curves(task, curves), draws=DRAWS, seed=seed)
    spread = np.nanstd(posterior.simulate(("EF",)).readings["EF"], axis=1)
    random = np.random.default_rng(seed)
    chosen = random.integers(0, len(error), (RESAMPLES, len(error)))
    resampled = [_smaller(error[some], spread[some]) for some in chosen]
    order = np.argsort(spread)
    return {
        "error": float(error.mean()),
        "error_by_fifth": [float(part.mean()) for part in np.array_split(error[order], FIFTHS)],
        "spread_by_fifth": [float(part.mean()) for part in np.array_split(spread[order], FIFTHS)],
        "error_of_the_certain": float(error[order][: _kept(len(error))].mean()),
        "smaller_percent": _smaller(error, spread),
        "smaller_percent_interval": np.quantile(resampled, (0.025, 0.975)).tolist(),
        "smaller_percent_at_best": _smaller(error, error),
        "rank_correlation": rank(spread, error),
        "clips": {"spread": spread, "error": error},
    }


def _kept(n: int) -> int:
    return n - n // FIFTHS


def _smaller(error: Float[np.ndarray, " clip"], spread: Float[np.ndarray, " clip"]) -> float:
    """Return by how much the mean error falls if the fifth with the largest spread is refused."""
    kept = np.argsort(spread)[: _kept(len(error))]
    return float(100 * (1 - error[kept].mean() / error.mean()))


def clip_table(found: dict[str, Any]) -> str:
    """Return the errors by fifth of the uncertainty as Markdown."""
    if not found:
        return "Fewer than ten unseen clips of the training run have a beat: too few to tell."
    spreads, errors = found["spread_by_fifth"], found["error_by_fifth"]
    low, high = found["smaller_percent_interval"]
    return "\n".join(
        [
            "| unseen phantom clips | "
            + " | ".join(["most certain fifth", "second", "third", "fourth", "least certain"])
            + " | all | without the least certain |",
            "|---" * (FIFTHS + 3) + "|",
            f"| stated standard deviation of EF | {' | '.join(f'{x:.1f}' for x in spreads)} | "
            f"{np.mean(spreads):.1f} | {np.mean(spreads[:-1]):.1f} |",
            f"| error of EF [points] | {' | '.join(f'{x:.2f}' for x in errors)} | "
            f"{found['error']:.2f} | {found['error_of_the_certain']:.2f} |",
            "",
            f"Refusing the least certain fifth lowers the error by {found['smaller_percent']:.0f}% "
            f"(95% interval {low:.0f} to {high:.0f}); refusing the fifth with the largest errors, "
            f"if they were known, by {found['smaller_percent_at_best']:.0f}%.",
        ]
    )
