"""Counting the programs that are compiled, which takes a new process most of its time."""

import contextlib
from collections.abc import Iterator
from typing import Any

import jax


@contextlib.contextmanager
def programs() -> Iterator[list[str]]:
    """Collect the names of the programs that are made meanwhile, found in a cache or not."""
    names: list[str] = []

    def listen(event: str, duration_secs: float, **told: Any) -> None:
        if event.endswith("jaxpr_to_mlir_module_duration"):
            names.append(str(told.get("fun_name")))

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield names
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
