"""Scripts of the tests in processes of their own, with virtual devices: `run` and `started`."""

import argparse
import os
import socket
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np


def run(script, folder, *each, devices, code=0):
    """Run a script in one process for each list of arguments; return what each of them wrote.

    XLA optimises little: the scripts compile for longer than they compute.
    """
    cache = jax.config.jax_compilation_cache_dir
    common = ["--devices", str(devices), "--out", str(folder), "--cache", cache]
    environment = {name: v for name, v in os.environ.items() if name != "XLA_FLAGS"}
    root = Path(__file__).parents[1]
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", f"tests.{script}", *common, *arguments],
            cwd=root,
            env=environment | {"JAX_PLATFORMS": "cpu", "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for arguments in each
    ]
    try:
        for process in processes:
            said, _ = process.communicate(timeout=1800)
            assert process.returncode == code, said[-3000:]
    finally:
        for process in processes:
            process.kill()
    if code:
        return []
    return [list(np.load(folder / f"{i}.npz").values()) for i in range(len(each))]


def started(parser=None):
    """In such a script: take the arguments, join the other processes; return arguments and mesh.

    Args:
        parser: What knows the script's own arguments, if it has any.

    Returns:
        The arguments, and a mesh of all devices, with two axes, or None if there is only one.
    """
    parser = parser or argparse.ArgumentParser()
    parser.add_argument("--devices", type=int, required=True, help="of each process")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--process", type=int, default=0)
    parser.add_argument("--address", default=None)
    parser.add_argument("--cache", required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    jax.config.update("jax_num_cpu_devices", arguments.devices)
    jax.config.update("jax_compilation_cache_dir", arguments.cache)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    if arguments.processes > 1:
        jax.distributed.initialize(arguments.address, arguments.processes, arguments.process)
    number = jax.device_count()
    assert number == arguments.devices * arguments.processes
    assert jax.local_device_count() == arguments.devices
    return arguments, None if number == 1 else jax.make_mesh((2, number // 2), ("a", "b"))


def hosts(number):
    """Arguments of processes that find each other."""
    address = f"127.0.0.1:{free_port()}"
    common = ["--processes", str(number), "--address", address]
    return [[*common, "--process", str(i)] for i in range(number)]


def free_port():
    """Below those that the system hands out itself, which may be taken before ours is used."""
    for port in range(20_000 + os.getpid() % 10_000, 32_000):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) != 0:
                return port
    raise OSError("no free port between 20,000 and 32,000")
