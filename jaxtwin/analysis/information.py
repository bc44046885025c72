"""How much a measurement tells about a number."""

import numpy as np
from jaxtyping import Float


def information_bits(
    draws: Float[np.ndarray, " draw"], before: Float[np.ndarray, " prior_draw"]
) -> float:
    """Return how much was learnt about a number: the divergence from prior to posterior [bit].

    The draws are mapped by the distribution function of the prior, under which the prior is
    uniform. The divergence is then minus their differential entropy, which is estimated by
    Ebrahimi's spacings. 1 bit halves the range of a uniform distribution. An estimate below 0,
    which chance may give, counts as 0; n draws of the prior tell no more than log₂ n bits.

    Args:
        draws: Draws of the posterior; ties are allowed.
        before: Draws of the prior.

    Raises:
        ValueError: If there are fewer than 10 draws, or a number is not finite.
    """
    draws, before = np.asarray(draws, float), np.sort(np.asarray(before, float))
    if len(draws) < 10 or len(before) < 10:
        raise ValueError(f"{len(draws)} draws and {len(before)} of the prior: expected 10 or more")
    if not (np.isfinite(draws).all() and np.isfinite(before).all()):
        raise ValueError("draws that are not finite: leave out those that failed")
    if before[0] == before[-1]:
        return 0.0
    # The place among the draws of the prior, at random within the step: equal values, as of a
    # reading that takes few of them, get different places.
    low, high = (np.searchsorted(before, draws, side) for side in ("left", "right"))
    random = np.random.default_rng(0).random(len(draws))
    u = (low + random * (high - low + 1)) / (len(before) + 1)
    return max(-_entropy(np.sort(u)) / np.log(2), 0.0)


def _entropy(ordered: Float[np.ndarray, " draw"]) -> float:
    """Return the differential entropy of sorted draws [nats].

    Ebrahimi, Pflughoeft and Soofi, "Two measures of sample entropy", Statistics & Probability
    Letters 20(3), 1994. SciPy has it in `scipy.stats`, which takes half a second to import.
    """
    n = len(ordered)
    window, place = int(np.sqrt(n) + 0.5), np.arange(n)
    low, high = np.maximum(place - window, 0), np.minimum(place + window, n - 1)
    return float(np.mean(np.log(n * (ordered[high] - ordered[low]) / (high - low))))
