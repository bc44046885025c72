"""The paper's methods, as one would run them today: one training step of each, for timing.

Kuang et al. 2024 compare P-SSL with a neural ODE and a PINN, each fitted to one simulated patient,
and train a 3D network on clips. Each is reimplemented here in PyTorch with the settings of the
paper's published scripts. The docstrings state what the scripts leave open and what was changed.
`PAPER` maps names to factories. A factory prepares data and weights, and returns a function that
takes exactly one training step and returns the loss before it. The patient is the circuit at its
default parameters; its periodic beat is computed once with jaxtwin's solver and is not timed.
"""

import contextlib
import itertools
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import numpy as np

from benchmarks.rivals import Missing

Step: TypeAlias = Callable[[], float]
"""Function that takes one training step and returns the loss before it."""


def torch_or_missing() -> Any:
    """Return PyTorch.

    Raises:
        Missing: If it is not installed; the message says how to install it.
    """
    try:
        import torch  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise Missing(f'{error.name} (pip install -e ".[bench]")') from None
    return torch


@contextlib.contextmanager
def seeded(torch: Any) -> Iterator[None]:
    """Seed PyTorch's global generator in a context, and restore its state afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def beat(points: int) -> tuple[np.ndarray, np.ndarray]:
    """Return times from 0 to the period [s], [points], and the five states there, [points, 5]."""
    from jaxtwin.models.left_heart import LeftHeart, LeftHeartParameters
    from jaxtwin.physics.periodic import periodic_orbit

    orbit = periodic_orbit(LeftHeart(), LeftHeartParameters())
    at = np.asarray(orbit.times, np.float64)
    times = np.linspace(0.0, at[-1], points)
    # The order of the fields is the paper's: V, P_la, P_a, P_ao, Q.
    return times, np.stack([np.interp(times, at, np.asarray(x)) for x in orbit.states], axis=1)


def circuit_rates(
    p: dict[str, float], t: Any, states: Any, positive: Callable[[Any], Any]
) -> list[Any]:
    """Return the time derivatives of V, P_la, P_a, P_ao and Q, at times t within one period.

    Args:
        p: The circuit's parameters by name.
        t: Times [s], [points].
        states: Five arrays, [points].
        positive: Function max(·, 0) of the arrays' library.
    """
    V, P_la, P_a, P_ao, Q = states
    t_n = t / (0.2 + 0.15 * p["T_c"])
    g = (t_n / 0.7) ** 1.9
    rise = 1.55 * g / (1 + g) / (1 + (t_n / 1.17) ** 21.9)
    P_lv = ((p["E_max"] - p["E_min"]) * rise + p["E_min"]) * V
    q_m = positive(P_la - P_lv) / p["R_m"]
    q_a = positive(P_lv - P_ao) / p["R_a"]
    q_s = (P_a - P_la) / p["R_s"]
    return [
        q_m - q_a,
        (q_s - q_m) / p["C_r"],
        (Q - q_s) / p["C_s"],
        (q_a - Q) / p["C_a"],
        (P_ao - P_a - p["R_c"] * Q) / p["L_s"],
    ]


def train(module: Any, optimiser: Any, loss: Callable[[], Any]) -> Step:
    """Return a function that takes one optimiser step on a loss."""
    module.train()

    def step():
        optimiser.zero_grad()
        value = loss()
        value.backward(inputs=list(module.parameters()))
        optimiser.step()
        return value.item()

    return step


def neural_ode() -> Step:
    """Prepare one gradient step of a neural ODE for one patient.

    As in the published script: 60 points of one beat, all five states observed, the first given;
    dy/dt is a network of the state alone, 5-50-50-5, with its only ReLU before the last layer,
    weights drawn with a standard deviation of 0.1, biases 0; torchdiffeq's `odeint_adjoint` with
    its default solver and tolerances (dopri5, 1e-7 and 1e-9); mean absolute error; RMSprop with
    learning rate 1e-3; float32. Assumed: the patient, which the script draws at random.

    Raises:
        Missing: If PyTorch or torchdiffeq is not installed.
    """
    torch = torch_or_missing()
    try:
        from torchdiffeq import odeint_adjoint  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise Missing(f'{error.name} (pip install -e ".[bench]")') from None
    times, states = (torch.as_tensor(x, dtype=torch.float32) for x in beat(60))

    class Rates(torch.nn.Module):
        """Network for dy/dt; time is not an input."""

        def __init__(self):
            super().__init__()
            self.layers = torch.nn.ModuleList(
                torch.nn.Linear(a, b) for a, b in ((5, 50), (50, 50), (50, 5))
            )
            for layer in self.layers:
                torch.nn.init.normal_(layer.weight, std=0.1)
                torch.nn.init.zeros_(layer.bias)

        def forward(self, t, y):
            first, second, last = self.layers
            return last(torch.relu(second(first(y))))

    with seeded(torch):
        rates = Rates()
    return train(
        rates,
        torch.optim.RMSprop(rates.parameters(), lr=1e-3),
        lambda: (odeint_adjoint(rates, states[0], times) - states).abs().mean(),
    )


def pinn() -> Step:
    """Prepare one epoch of a PINN for one patient: one step on all 3,000 points at once.

    As in the published script (TensorFlow): 3,000 evenly spaced points of one beat; the input is
    time, scaled to [−1, 1], and the output the five states; four hidden layers of 256 tanh units;
    normal Glorot weights, biases 0; known parameters; loss = mean squared error of the volume +
    mean squared residuals of the five equations, unweighted; derivatives by one reverse pass for
    each state; Adam with learning rate 1e-3; float64.

    Differences: the script uses the first point's derivative for all points, counts time in samples
    and, because of a missing bracket, has another elastance. Here each point has its own
    derivative, time is in seconds and the elastance is the circuit's. None of this changes the work
    of a step. The script evaluates elastance and valves point by point (`tf.map_fn`) without need;
    here they are arrays, which makes this version faster than the original. Assumed: the patient;
    normal weights, which are truncated in the script.

    Raises:
        Missing: If PyTorch is not installed.
    """
    torch = torch_or_missing()
    from jaxtwin.models.left_heart import LeftHeartParameters

    p = {name: float(value) for name, value in vars(LeftHeartParameters()).items()}
    times, states = (torch.as_tensor(x, dtype=torch.float64) for x in beat(3_000))
    t = times[:, None].clone().requires_grad_()
    volume = states[:, 0]

    sizes = (1, 256, 256, 256, 256, 5)
    layers = []
    with seeded(torch):
        for a, b in itertools.pairwise(sizes):
            linear = torch.nn.Linear(a, b, dtype=torch.float64)
            torch.nn.init.xavier_normal_(linear.weight)
            torch.nn.init.zeros_(linear.bias)
            layers += [linear, torch.nn.Tanh()]
    network = torch.nn.Sequential(*layers[:-1])

    def loss():
        learnt = network(2 * t / p["T_c"] - 1).unbind(dim=1)
        rates = [torch.autograd.grad(x.sum(), t, create_graph=True)[0].squeeze(1) for x in learnt]
        circuit = circuit_rates(p, times, learnt, torch.relu)
        residuals = torch.stack(circuit) - torch.stack(rates)
        return torch.mean((learnt[0] - volume) ** 2) + torch.mean(residuals**2, dim=1).sum()

    return train(network, torch.optim.Adam(network.parameters(), lr=1e-3), loss)


def cnn3d(batch: int = 16, frames: int = 32, size: int = 112) -> Step:
    """Prepare one training step of the 3D network, supervised by volumes.

    As in the published scripts: five 3 × 3 × 3 convolutions of 8, 16, 32, 64 and 128 channels, each
    with batch normalisation and ReLU, max-pooling after the first four, the mean over time and
    space, a layer of 512 ReLU units and an output layer; mean squared error of EDV and ESV; Adam
    with learning rate 1e-3; float32.

    Assumed, so that the work equals that of `jaxtwin.encoders.conv3d.Conv3DEncoder`: clips of 32
    grey frames in batches of 16 (the script for EchoNet-Dynamic uses 16 colour frames in batches of
    100). The clips are noise and the volumes, in units of 100 mL, are random, which does not affect
    the cost of a step.

    Args:
        batch: Number of clips per step.
        frames: Number of frames per clip.
        size: Height and width of a frame [pixels].

    Raises:
        Missing: If PyTorch is not installed.
    """
    torch = torch_or_missing()
    nn = torch.nn
    channels = (1, 8, 16, 32, 64, 128)
    layers = []
    with seeded(torch):
        clips = torch.randn(batch, 1, frames, size, size)
        volumes = torch.rand(batch, 2)
        for a, b in itertools.pairwise(channels):
            layers += [nn.Conv3d(a, b, 3, padding=1), nn.BatchNorm3d(b), nn.ReLU()]
            layers += [nn.MaxPool3d(2)] if b < channels[-1] else [nn.AdaptiveAvgPool3d(1)]
        layers += [nn.Flatten(), nn.Linear(channels[-1], 512), nn.ReLU(), nn.Linear(512, 2)]
    network = nn.Sequential(*layers)
    return train(
        network,
        torch.optim.Adam(network.parameters(), lr=1e-3),
        lambda: nn.functional.mse_loss(network(clips), volumes),
    )


PAPER: dict[str, Callable[[], Step]] = {
    "neural ODE": neural_ode,
    "PINN": pinn,
    "3D-CNN": cnn3d,
}
"""Functions that prepare a step, by name."""
