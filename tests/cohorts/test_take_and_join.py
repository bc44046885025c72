"""Taking patients out of a cohort and joining cohorts."""

import dataclasses
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxtwin.cohorts.cohort import Cohort, join
from jaxtwin.models.ventricle import CLINICAL
from jaxtwin.physics.solution import Recording
from tests.cohorts.tank import BOX, LEAKING, SplitTank, Tank, arrays, assert_equal, outputs

few = settings(deadline=None, max_examples=25, derandomize=True)


@st.composite
def cohorts(draw, at_least=0):
    """Random numbers in place of simulations, some of them failed."""
    n = draw(st.integers(at_least, 8))
    random = np.random.default_rng(draw(st.integers(0, 99)))

    def numbers(*shape):
        return random.uniform(0.1, 200, (n, *shape)).astype(np.float32)

    def every(make):
        values = outputs(None)
        return values._replace(**{name: make() for name in values._fields})

    recording = Recording(every(numbers), every(numbers), every(lambda: numbers(4)), numbers())
    success = random.random(n) < 0.8
    residual = np.where(random.random(n) < 0.9, numbers(), np.nan).astype(np.float32)
    return Cohort(
        Tank(), BOX, numbers(3), recording, success, residual, numbers(), "drawn", accepted=0.5
    )


def indices(n):
    """Ways to point at some of n patients: a mask, places, a slice."""
    ways = st.lists(st.booleans(), min_size=n, max_size=n).map(lambda mask: np.array(mask, bool))
    ways |= st.slices(n)
    if n:
        places = st.lists(st.integers(-n, n - 1), max_size=10)
        ways |= places.map(lambda rows: np.array(rows, int))
    return ways


@few
@given(st.data(), cohorts())
def test_take_selects_the_same_rows_of_everything(data, cohort):
    index = data.draw(indices(len(cohort)))
    rows = np.arange(len(cohort))[index]
    some = cohort.take(index)
    assert len(some) == len(rows) and (some.source, some.accepted) == ("drawn", 0.5)
    for taken, whole in zip(arrays(some), arrays(cohort), strict=True):
        np.testing.assert_array_equal(taken, whole[rows])
    again = data.draw(indices(len(some)))
    assert_equal(some.take(again), cohort.take(rows[again]))


@few
@given(st.data(), cohorts())
def test_join_undoes_take(data, cohort):
    cuts = sorted(data.draw(st.lists(st.integers(0, len(cohort)), max_size=3)))
    ends = [0, *cuts, len(cohort)]
    parts = [cohort.take(slice(a, b)) for a, b in itertools.pairwise(ends)]
    whole = join(parts)
    assert_equal(whole, cohort)
    assert (whole.source, whole.accepted) == ("drawn", 0.5)
    order = np.random.default_rng(0).permutation(len(cohort))
    assert_equal(cohort.take(order).take(np.argsort(order)), cohort)


@few
@given(st.data(), cohorts())
def test_reading_and_taking_commute(data, cohort):
    index = data.draw(indices(len(cohort)))
    some, values = cohort.take(index), cohort.read()
    assert set(values) == set(Tank().readings())
    for name, read in some.read().items():
        np.testing.assert_array_equal(read, values[name][index], err_msg=name)
        assert len(read) == len(some)
    np.testing.assert_array_equal(some.within(CLINICAL), cohort.within(CLINICAL)[index])
    np.testing.assert_array_equal(cohort.read("EDV")["EDV"], values["EDV"])


@few
@given(cohorts())
def test_failures_count_those_that_did_not_succeed(cohort):
    failed = int(np.sum(~cohort.success))
    said = cohort.failures(limit=2)
    assert said.startswith(f"{failed} of {len(cohort)} ") if failed else said == ""
    assert len(said.splitlines()) == (1 + min(failed, 2) + (failed > 2) if failed else 0)


@few
@given(cohorts(at_least=1))
def test_only_like_is_joined_with_like(cohort):
    other = dataclasses.replace(cohort, box=LEAKING)
    split = dataclasses.replace(cohort, system=SplitTank())
    for cohorts in ([], [cohort, other], [cohort, split]):
        with pytest.raises(ValueError, match="at least one cohort, all of one system and box"):
            join(cohorts)
    elsewhere = dataclasses.replace(cohort, source="elsewhere", accepted=0.7)
    both = join([cohort, elsewhere, cohort])
    assert both.source == "drawn, elsewhere" and np.isnan(both.accepted)


@few
@given(cohorts())
def test_a_reading_that_the_system_does_not_have(cohort):
    for ask in (lambda: cohort.read(["EDV", "EDP"]), lambda: cohort.within({"EDP": (0.0, 1.0)})):
        with pytest.raises(ValueError, match="Tank has no reading 'EDP': it has EDV, ESV"):
            ask()
