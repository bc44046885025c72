"""Networks that compute in bfloat16 while their parameters stay in float32."""

import warnings
from collections.abc import Callable
from typing import Any, TypeVar, get_args

import equinox as eqx
import jax
import jax.numpy as jnp

from jaxtwin.training.settings import Precision

Network = TypeVar("Network", bound=eqx.Module)
_AMPERE = 8.0
"""Compute capability of the first GPUs of NVIDIA with bfloat16."""


def check_precision(precision: Precision) -> None:
    """Check a precision before training in it.

    Raises:
        ValueError: If there is no such precision.

    Warns:
        UserWarning: If JAX's device computes in bfloat16 no faster than in float32.
    """
    if precision not in get_args(Precision):
        raise ValueError(
            f"precision {precision!r}: expected {' or '.join(map(repr, get_args(Precision)))}"
        )
    if precision == "bfloat16" and not _has_bfloat16(jax.devices()[0]):
        warnings.warn(
            f"bfloat16 on {jax.devices()[0].device_kind}: it works, but is slower than float32, "
            "since this device has no bfloat16 of its own; on a GPU since NVIDIA's Ampere it is "
            "faster",
            stacklevel=3,
        )


def _has_bfloat16(device: Any) -> bool:
    if device.platform == "cpu":
        return False
    return float(getattr(device, "compute_capability", _AMPERE)) >= _AMPERE


def computing_in(
    precision: Precision, network: Network, keep: Callable[[Network], Any] = lambda network: ()
) -> Network:
    """Return a network that computes in a precision; to be called inside a loss.

    Its arrays are cast, so gradients arrive in float32 at the float32 parameters. bfloat16 has the
    range of float32, so neither gradients nor losses are scaled.

    Args:
        precision: With "float32" the network is returned unchanged.
        network: Network with parameters in float32.
        keep: Function from the network to the part that computes in float32, usually the last: what
            it returns, and so the loss, is then float32.
    """
    if precision == "float32":
        return network
    lower = jax.tree.map(
        lambda leaf: leaf.astype(jnp.bfloat16) if eqx.is_inexact_array(leaf) else leaf, network
    )
    return eqx.tree_at(keep, lower, keep(network))
