"""The training loop: it converges, keeps the best model, and resumes exactly."""

import dataclasses
import json
import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh
from jaxtyping import Array, Float

from jaxtwin.training import checkpoint
from jaxtwin.training import loop as training
from jaxtwin.training.checkpoint import CheckpointError
from jaxtwin.training.loop import MetricsLog, TrainingConfig, fit

random = np.random.default_rng(0)
X = random.normal(size=(64, 3)).astype(np.float32)
Y = (X @ np.array([1.0, -2.0, 0.5]) + 0.3 + 0.1 * random.normal(size=64)).astype(np.float32)
SHORT = TrainingConfig(17, 16, learning_rate=0.05, evaluate_every=5)
traces = []


class Line(eqx.Module):
    slope: Float[Array, " 3"]
    offset: Float[Array, ""]
    name: str = "line"

    def __call__(self, x):
        return x @ self.slope + self.offset


def line():
    return Line(jnp.zeros(3, jnp.float32), jnp.zeros((), jnp.float32))


def squared_error(model, batch, key):
    traces.append(None)
    x, y = batch
    return jnp.mean((model(x) - y) ** 2)


def noisy(model, batch, key):
    """A loss that depends on the key, as with dropout."""
    x, y = batch
    return squared_error(model, (x + 0.1 * jax.random.normal(key, x.shape, x.dtype), y), key)


def batches(step):
    while True:
        rows = np.random.default_rng(step).integers(len(X), size=16)
        yield X[rows], Y[rows]
        step += 1


def whole(step):
    while True:
        yield X, Y


def validate(model):
    return {"loss": float(squared_error(model, (X, Y), None)), "slope": float(model.slope[0])}


def train(folder, config=SHORT, *, resume=False, **changes):
    arguments = {
        "model": line(),
        "loss": noisy,
        "batches": batches,
        "validate": validate,
        "stage": "line",
        "description": {"data": "normal"},
        "seed": 3,
    }
    return fit(config=config, folder=folder, resume=resume, **(arguments | changes))


def log(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def assert_same(folder, fitted, other_folder, other):
    """Bit for bit: the model, how it was found, the kept state and the log."""
    for a, b in zip(jax.tree.leaves(fitted.model), jax.tree.leaves(other.model), strict=True):
        assert np.array_equal(a, b)
    assert (fitted.best_step, fitted.steps) == (other.best_step, other.steps)
    assert fitted.validation == other.validation
    text = (folder / "metrics.jsonl").read_text()
    assert text == (other_folder / "metrics.jsonl").read_text()
    like = {"params": line(), "best": line()}
    like["optimiser"] = training.optimiser(SHORT).init(eqx.filter(line(), eqx.is_array))
    states = [checkpoint.load(place / "line_state", like) for place in (folder, other_folder)]
    for a, b in zip(*map(jax.tree.leaves, states), strict=True):
        assert np.array_equal(a, b)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    folder = tmp_path_factory.mktemp("unbroken")
    return folder, train(folder)


def test_a_mesh_changes_nothing(unbroken, tmp_path):
    folder, fitted = unbroken
    spread = train(tmp_path, mesh=Mesh(np.array(jax.devices()), ("batch",)))
    assert_same(folder, fitted, tmp_path, spread)


def test_least_squares_in_closed_form(tmp_path):
    config = TrainingConfig(400, 64, learning_rate=0.05, evaluate_every=200)
    fitted = train(tmp_path, config, loss=squared_error, batches=whole)
    solution, *_ = np.linalg.lstsq(np.column_stack([X, np.ones(64)]), Y, rcond=None)
    np.testing.assert_allclose(fitted.model.slope, solution[:3], atol=1e-4)
    np.testing.assert_allclose(fitted.model.offset, solution[3], atol=1e-4)
    assert fitted.model.name == "line"


def test_weight_decay_is_on_matrices_only():
    """Where the gradient is zero, weight decay alone moves a parameter."""
    params = {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)}
    optim = training.optimiser(TrainingConfig(100, 1, learning_rate=0.1, weight_decay=0.5))
    zero = jax.tree.map(jnp.zeros_like, params)
    change, _ = jax.jit(optim.update)(zero, optim.init(params), params)
    assert np.all(change["kernel"] < 0) and np.all(change["bias"] == 0)


def test_the_learning_rate_warms_up_and_decays():
    """Adam's first steps on a constant gradient have the learning rate's size."""
    optim = training.optimiser(TrainingConfig(100, 1, learning_rate=0.1, clip_norm=1e6))
    params = jnp.ones(1)
    update, state, sizes = jax.jit(optim.update), optim.init(params), []
    for _ in range(101):
        change, state = update(jnp.ones(1), state, params)
        sizes.append(-change.item())
    assert sizes[0] == pytest.approx(1e-3, rel=0.01)
    assert max(sizes) == pytest.approx(sizes[5]) == pytest.approx(0.1, rel=0.01)
    assert sizes[-1] == pytest.approx(1e-3, rel=0.01)


def test_everything_stays_float32(tmp_path):
    """With x64 on, an optimiser easily promotes; training in float64 takes twice the time."""
    seen = []

    def loss(model, batch, key):
        value = noisy(model, batch, key)
        seen.extend(leaf.dtype for leaf in (value, model.slope, model.offset))
        return value

    fitted = train(tmp_path, TrainingConfig(3, 16), loss=loss)
    assert {fitted.model.slope.dtype, fitted.model.offset.dtype, *seen} == {jnp.dtype("float32")}
    like = {"params": line(), "best": line()}
    like["optimiser"] = training.optimiser(SHORT).init(eqx.filter(line(), eqx.is_array))
    checkpoint.load(tmp_path / "line_state", like)  # refuses any other dtype


def test_the_best_on_validation_is_kept(tmp_path):
    scores, seen = iter([3.0, 1.0, 2.0, 1.0]), []

    def validate(model):
        seen.append(model)
        return {"loss": next(scores)}

    fitted = train(tmp_path, validate=validate)
    assert (fitted.best_step, fitted.steps, fitted.validation) == (10, 17, {"loss": 1.0})
    assert np.array_equal(fitted.model.slope, seen[1].slope)
    assert not np.array_equal(fitted.model.slope, seen[3].slope)


def test_it_stops_where_nothing_gets_better(tmp_path):
    scores = iter([3.0, 2.0, 2.0, 2.5])
    config = dataclasses.replace(SHORT, steps=1000, patience=2)
    fitted = train(tmp_path, config, validate=lambda model: {"loss": next(scores)})
    assert (fitted.best_step, fitted.steps) == (10, 20)
    again = train(
        tmp_path, config, validate=lambda model: pytest.fail("it had stopped"), resume=True
    )
    assert_same(tmp_path, fitted, tmp_path, again)


def test_the_log(unbroken):
    folder, fitted = unbroken
    rows = log(folder)
    assert [row["step"] for row in rows] == [5, 10, 15, 17]
    assert all(set(row) == {"stage", "step", "train_loss", "loss", "slope"} for row in rows)
    assert {row["stage"] for row in rows} == {"line"}
    assert rows[-1]["loss"] == fitted.validation["loss"] < rows[0]["loss"]


def test_the_same_seed_gives_the_same_and_another_does_not(unbroken, tmp_path):
    assert_same(tmp_path, train(tmp_path), *unbroken)
    other = train(tmp_path, seed=4)
    assert not np.array_equal(other.model.slope, unbroken[1].model.slope)


def test_every_step_has_its_own_key(tmp_path):
    def loss(model, batch, key):
        return jax.random.uniform(key, (), jnp.float32) + 0 * model.offset

    train(tmp_path, TrainingConfig(6, 16, evaluate_every=1), loss=loss)
    assert len({row["train_loss"] for row in log(tmp_path)}) == 6


def killed_in_a_step(step, patch=None):
    def until(start):
        yield from (batch for batch, _ in zip(batches(start), range(start, step), strict=False))
        raise KeyboardInterrupt

    return {"batches": until}


def killed_in_validation(call, patch):
    left = iter(range(call))

    def until(model):
        if next(left, None) is None:
            raise KeyboardInterrupt
        return validate(model)

    return {"validate": until}


def killed_around(owner, name, after):
    """Killed just before or just after the second call of a function."""

    def kill(_, patch):
        function, left = getattr(owner, name), iter(range(1))

        def wrapped(*args, **kwargs):
            last = next(left, None) is None
            if not last or after:
                function(*args, **kwargs)
            if last:
                raise KeyboardInterrupt

        patch.setattr(owner, name, wrapped)
        return {}

    return kill


@pytest.mark.parametrize(
    ("kill", "times"),
    [
        pytest.param(killed_in_a_step, (0, 4, 6, 16), id="in a step"),
        pytest.param(killed_in_validation, (0, 2), id="in validation"),
        pytest.param(killed_around(checkpoint, "save", False), (1,), id="before saving"),
        pytest.param(killed_around(checkpoint, "save", True), (1,), id="after saving"),
        pytest.param(killed_around(MetricsLog, "write", False), (1,), id="before logging"),
        pytest.param(killed_around(MetricsLog, "write", True), (1,), id="after logging"),
    ],
)
def test_a_killed_run_ends_like_an_unbroken_one(unbroken, tmp_path, monkeypatch, kill, times):
    for time in times:
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            train(tmp_path, resume=True, **kill(time, patch))
    assert_same(tmp_path, train(tmp_path, resume=True), *unbroken)


def test_half_a_line_in_the_log(unbroken, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, **killed_in_a_step(7))
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"stage": "line", "st')
    assert_same(tmp_path, train(tmp_path, resume=True), *unbroken)


def test_a_finished_run_does_nothing(unbroken, tmp_path):
    first = train(tmp_path)
    again = train(
        tmp_path,
        resume=True,
        model=Line(jnp.ones(3, jnp.float32), jnp.ones((), jnp.float32)),
        batches=lambda step: pytest.fail("nothing is left to train"),
        validate=lambda model: pytest.fail("nothing is left to validate"),
    )
    assert_same(tmp_path, again, *unbroken)
    assert again.seconds == first.seconds > 0


def test_without_resume_it_starts_again(unbroken, tmp_path):
    folder = tmp_path / "made" / "here"
    train(folder, seed=4)
    assert_same(folder, train(folder), *unbroken)


def test_other_stages_keep_their_lines(tmp_path):
    MetricsLog(tmp_path / "metrics.jsonl").write("before", 99, loss=1.0)
    train(tmp_path)
    train(tmp_path)
    train(tmp_path, stage="after")
    rows = log(tmp_path)
    assert rows[0] == {"stage": "before", "step": 99, "loss": 1.0}
    stages = [row["stage"] for row in rows]
    assert stages == ["before"] + 4 * ["line"] + 4 * ["after"]


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"description": {"data": "uniform"}}, "data is normal, not uniform"),
        ({"description": {}}, "data is normal, not missing"),
        ({"seed": 4}, "seed is 3, not 4"),
        ({"config": dataclasses.replace(SHORT, steps=20)}, "training.steps is 17, not 20"),
    ],
)
def test_another_configuration_is_not_resumed(unbroken, changes, named):
    folder, _ = unbroken
    before = (folder / "metrics.jsonl").read_text()
    with pytest.raises(CheckpointError, match=f"another configuration\n  {named}"):
        train(folder, resume=True, **changes)
    assert (folder / "metrics.jsonl").read_text() == before


def test_another_model_is_not_resumed(unbroken):
    class Scaled(eqx.Module):
        slope: Float[Array, " 3"]

    with pytest.raises(CheckpointError, match="another configuration"):
        train(unbroken[0], resume=True, model=Scaled(jnp.zeros(3, jnp.float32)))


def test_a_loss_that_is_not_finite(unbroken, tmp_path):
    def broken(start):
        for k, (x, y) in zip(range(start, 99), batches(start), strict=False):
            yield x, y * (math.nan if k == 7 else 1)

    with pytest.raises(FloatingPointError, match=r"line: the loss is nan .* at step 10"):
        train(tmp_path, batches=broken)
    assert checkpoint.config(tmp_path / "line_state")["progress"]["step"] == 5
    assert_same(tmp_path, train(tmp_path, resume=True), *unbroken)


def test_a_validation_that_is_not_finite(tmp_path):
    with pytest.raises(FloatingPointError, match="inf in validation"):
        train(tmp_path, validate=lambda model: {"loss": math.inf})


def test_it_compiles_once(tmp_path):
    config = TrainingConfig(30, 16, evaluate_every=10)
    changes = {"config": config, "validate": lambda model: {"loss": 1.0}}
    traces.clear()
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, **changes, **killed_in_a_step(25))
    assert len(traces) == 1
    train(tmp_path, **changes, resume=True)
    assert len(traces) == 2
