"""Checks of posteriors against those of another library, sbi, on the same draws.

    pip install -e ".[bench]" && python -m benchmarks.posteriors [--patients 500 --draws 200]

Normal posteriors in three dimensions that are calibrated, too narrow by half, or displaced by half
a standard deviation. Prints the largest difference of the ranks of the truth, of the expected
coverage by TARP at the same reference points, and of the accuracy of a classifier (C2ST), between
jaxtwin's functions and sbi's.
"""

import argparse

import numpy as np

from jaxtwin.inference.calibration import c2st, ranks, tarp

DIMENSIONS = 3
CASES = {"calibrated": (1.0, 0.0), "too narrow": (0.5, 0.0), "displaced": (1.0, 0.5)}


def draw(width: float, shift: float, patients: int, draws: int) -> tuple[np.ndarray, np.ndarray]:
    """Return draws and truths of normal posteriors.

    Args:
        width: Standard deviation of the draws, relative to the right one.
        shift: Displacement of the draws.
        patients: Number of patients.
        draws: Number of draws per patient.
    """
    random = np.random.default_rng(0)
    truth = random.normal(size=(patients, DIMENSIONS))
    middle = 0.5 * (truth + random.normal(size=truth.shape))
    noise = random.normal(size=(patients, draws, DIMENSIONS))
    return middle[:, None] + shift + width * np.sqrt(0.5) * noise, truth


def compare(theta: np.ndarray, truth: np.ndarray) -> tuple[float, float, float, float]:
    """Return differences of ranks and of TARP's coverage, and both accuracies of C2ST."""
    import torch  # pyright: ignore[reportMissingImports]
    from sbi.diagnostics.sbc import _run_sbc  # pyright: ignore[reportMissingImports]
    from sbi.diagnostics.tarp import _run_tarp  # pyright: ignore[reportMissingImports]
    from sbi.utils.metrics import c2st as other_c2st  # pyright: ignore[reportMissingImports]

    draws, true = torch.as_tensor(theta.swapaxes(0, 1).copy()), torch.as_tensor(truth)
    own = np.stack([ranks(theta[..., k], truth[:, k]) for k in range(DIMENSIONS)], axis=1)
    other = _run_sbc(true, true, draws, show_progress_bar=False).numpy()
    # A random number within the step of each rank makes ours continuous.
    off = np.abs(np.floor(own * (theta.shape[1] + 1)) - other).max()

    found = tarp(theta, truth)
    low, high = truth.min(axis=0), truth.max(axis=0)
    points = np.random.default_rng(0).random(truth.shape)
    scaled = (draws - torch.as_tensor(low)) / torch.as_tensor(high - low)
    coverage, level = _run_tarp(
        scaled,
        (true - torch.as_tensor(low)) / torch.as_tensor(high - low),
        torch.as_tensor(points),
        num_bins=20,
    )
    at = np.interp(found.level, level.numpy(), coverage.numpy())
    first, second = theta[0], theta[1]
    accuracy = c2st(first, second)
    theirs = float(other_c2st(torch.as_tensor(first), torch.as_tensor(second)))
    return float(off), float(np.abs(at - found.coverage).max()), accuracy, theirs


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--patients", type=int, default=500)
    parser.add_argument("--draws", type=int, default=200)
    arguments = parser.parse_args()
    print("| posteriors | largest difference of ranks | of TARP's coverage | C2ST | C2ST of sbi |")
    print("|---|---|---|---|---|")
    for name, (width, shift) in CASES.items():
        ranked, covered, *accuracies = compare(
            *draw(width, shift, arguments.patients, arguments.draws)
        )
        cells = [f"{ranked:.0f}", f"{covered:.3f}", *(f"{x:.3f}" for x in accuracies)]
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
