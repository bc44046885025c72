"""Check of conserved quantities, declared and missing, and of the time constants."""

import numpy as np

from jaxtwin.physics.check.report import Report, count
from jaxtwin.physics.check.slopes import Slopes

# A vector field is stiff if the time of interest exceeds its fastest time constant by this factor,
# about the number of steps that an explicit solver would need for stability alone.
STIFF = 500.0
# Largest rate of a conserved quantity, as a share of the rates of its terms.
CONSERVED = 1e-6


def check_conserved(found: Slopes, report: Report) -> None:
    """Compare the declared quantities with those that stay constant at all of these states."""
    rates = found.select("vector_field")
    declared = found.select("conserved", "the state")
    for k in range(declared.shape[1]):
        terms = declared[:, k] * rates
        drift, size = np.abs(terms.sum(axis=1)), np.abs(terms).sum(axis=1)
        # Relative to the largest over the states, because at rest all terms are rounding errors.
        if drift.max() > CONSERVED * max(size.max(), 1e-12):
            report.problem(
                f"conserved quantity {k} changes at a rate of {drift.max():.3g}, and its terms "
                f"at up to {size.max():.3g}: expected no change",
                "what leaves one compartment must enter another: check signs and compliances "
                "in vector_field, or remove the quantity from `conserved`",
            )
    if report.problems:
        return
    n = declared.shape[1]
    size = np.abs(rates).max(axis=0)
    size[size == 0] = 1.0
    _, values, right = np.linalg.svd(rates / size, full_matrices=False)
    constant = int((values < CONSERVED * values[0]).sum()) if values[0] > 0 else len(values)
    if constant <= n:
        _check_independent(declared[0], report)
        return
    weights = right[-1] / size
    weights = weights / weights[np.argmax(np.abs(weights))]
    terms = [
        f"{w:.3g} {name}"
        for w, name in zip(weights, found.names("vector_field"), strict=True)
        if abs(w) > 1e-9
    ]
    report.problem(
        f"{count(constant, 'linear combination', 'linear combinations')} of the states stay "
        f"constant, and `conserved` names {n}; one is {' + '.join(terms)}",
        "return it from `conserved`, as a function of the parameters: without it the periodic "
        "state is not determined",
    )


def _check_independent(gradients: np.ndarray, report: Report) -> None:
    """Check that no quantity is redundant: the periodic state's equations would be singular."""
    if len(gradients) < 2:
        return
    gradients = gradients / np.maximum(np.linalg.norm(gradients, axis=1, keepdims=True), 1e-300)
    if np.linalg.svd(gradients, compute_uv=False)[-1] < CONSERVED:
        report.problem(
            f"the {len(gradients)} conserved quantities are not independent",
            "return each independent quantity once",
        )


def describe_modes(found: Slopes, duration: float, report: Report) -> None:
    """Report the fastest time constant at these states, and a suitable solver."""
    matrices = found.select("vector_field", "the state")
    fastest = float(np.max(-np.linalg.eigvals(matrices).real))
    modes = fastest * duration
    report.facts["fastest mode"] = f"{1 / fastest:.2g}" if fastest > 0 else "none decays"
    report.facts["solver"] = (
        f"stiff ({modes:.0f} of its time constants in {duration:g}): jaxtwin's own (the default), "
        "or a stiff Diffrax solver such as Kvaerno5"
        if modes > STIFF
        else "not stiff: any solver, such as Diffrax's Tsit5; jaxtwin's own (the default) does too"
    )
