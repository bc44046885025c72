"""Recordings of arbitrary solutions."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxtwin.physics.solution import RESULTS, Solution, Stats

few = settings(deadline=None, max_examples=12, derandomize=True)


class Outputs(NamedTuple):
    V: jax.Array
    q: jax.Array


def solution_of(times, outputs, **options):
    times = jnp.asarray(times)
    batch = times.shape[:-1]
    stats = Stats(jnp.zeros(batch), jnp.zeros(batch, int), jnp.zeros(batch), jnp.zeros(batch))
    outputs = Outputs(*(jnp.asarray(leaf) for leaf in outputs))
    return Solution(times, outputs, outputs, times[..., -1], RESULTS.successful, stats, **options)


@st.composite
def solutions(draw, equidistant):
    """Random outputs of one patient or of three, over 12 steps that are equal or are not."""
    random = np.random.default_rng(draw(st.integers(0, 99)))
    batch = draw(st.sampled_from([(), (3,)]))
    steps = np.ones((*batch, 12)) if equidistant else random.uniform(0.01, 1.0, (*batch, 12))
    times = np.concatenate([np.zeros((*batch, 1)), np.cumsum(steps, axis=-1)], axis=-1)
    duration = random.uniform(0.3, 200.0, (*batch, 1))
    outputs = random.normal(size=(2, *batch, 13)) * draw(st.sampled_from([1e-6, 1.0, 1e6]))
    return solution_of(times / times[..., -1:] * duration, outputs, equidistant=equidistant)


either = st.booleans().flatmap(solutions)
phases = st.sampled_from([1, 4, 12])


@pytest.mark.slow
@few
@given(either, phases)
def test_extremes_bound_the_waveforms(solution, phases):
    recording = solution.recording(phases)
    np.testing.assert_array_equal(recording.duration, solution.times[..., -1])
    for name in Outputs._fields:
        outputs = getattr(solution.outputs, name)
        high, low = getattr(recording.maximum, name), getattr(recording.minimum, name)
        waveform = getattr(recording.waveforms, name)
        assert waveform.shape == (*solution.times.shape[:-1], phases)
        rounding = 1e-12 * np.abs(outputs).max()
        assert (waveform <= high[..., None] + rounding).all()
        assert (waveform >= low[..., None] - rounding).all()
        # Extremes are those of all times, not of the phases kept.
        np.testing.assert_array_equal(high, np.max(outputs, axis=-1))
        np.testing.assert_array_equal(low, np.min(outputs, axis=-1))
        np.testing.assert_allclose(waveform[..., 0], outputs[..., 0], rtol=1e-12)


@few
@given(solutions(equidistant=True), phases)
def test_interpolation_finds_the_times_of_an_even_grid(solution, phases):
    unknown = solution_of(solution.times, solution.outputs)
    for found, expected in zip(
        unknown.recording(phases).waveforms, solution.recording(phases).waveforms, strict=True
    ):
        scale = np.abs(solution.outputs.V).max()
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9 * scale)


@few
@given(solutions(equidistant=False), phases)
def test_straight_lines_are_interpolated_exactly(solution, phases):
    times, duration = solution.times, solution.duration[..., None]
    line = solution_of(times, (3.0 - 2.0 * times / duration, times))
    waveforms = line.recording(phases).waveforms
    share = np.broadcast_to(np.arange(phases) / phases, waveforms.V.shape)
    np.testing.assert_allclose(waveforms.V, 3.0 - 2.0 * share, rtol=1e-9)
    np.testing.assert_allclose(waveforms.q, share * duration, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("number", [0, -1, 5, 7, 13, 24])
def test_phases_that_do_not_divide_the_steps(number):
    solution = solution_of(np.arange(13.0), np.ones((2, 13)), equidistant=True)
    with pytest.raises(ValueError, match=rf"{number} phases .* 12 steps: expected a divisor"):
        solution.recording(number)


def test_success_is_a_result_with_a_sentence():
    one = solution_of(np.arange(3.0), np.ones((2, 3)))
    assert one.success and RESULTS[one.result] == "the solution can be used"
    ended = jax.vmap(lambda ok: RESULTS.where(ok, RESULTS.successful, RESULTS.diverged))(
        jnp.array([True, False])
    )
    stats = Stats(jnp.zeros(2), jnp.zeros(2, int), jnp.zeros(2), jnp.zeros(2))
    both = jnp.ones((2, 3))
    pair = Solution(both, Outputs(both, both), Outputs(both, both), both[:, 0], ended, stats)
    assert pair.success.tolist() == [True, False]
