"""Scripts of the tests in processes of their own, with virtual devices."""

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
