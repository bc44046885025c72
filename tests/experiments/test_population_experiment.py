"""experiments.population: the clinic's pairs of volumes that its box is measured with."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from experiments.population import EF_BY_FIFTHS, clinic_pairs
from jaxtwin.cohorts.clinic import ECHO_LABORATORY


def test_pairs_have_the_clinics_quantiles():
    EDV, ESV = clinic_pairs(100_000, 0).T
    EF = 100 * (1 - ESV / EDV)
    np.testing.assert_allclose(
        np.quantile(EDV, [0.05, 0.5, 0.95]),
        ECHO_LABORATORY.marginals["EDV"].quantile([0.05, 0.5, 0.95]),
        rtol=0.03,
    )
    order = np.array_split(np.argsort(EDV), 5)
    found = [np.quantile(EF[part], [0.05, 0.5, 0.95]) for part in order]
    np.testing.assert_allclose(found, EF_BY_FIFTHS, atol=2.5)
    # Within a fifth EF does not depend on EDV, so the correlation is a little weaker.
    assert spearmanr(EDV, EF).statistic == pytest.approx(-0.42, abs=0.1)
    assert np.median(ESV) == pytest.approx(34, abs=2)
    assert (ESV > 0).all() and (ESV < EDV).all()
