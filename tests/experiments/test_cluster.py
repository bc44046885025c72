"""Scripts for clusters: what they ask for fits together, and two processes do what one does."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
import zarr

from jaxtwin.cli import parse
from jaxtwin.commands.settings import TrialFileConfig
from jaxtwin.devices import join_processes
from jaxtwin.treatments.trial_file import read_arms, read_trial
from tests.processes import free_port

ROOT = Path(__file__).parents[2]
CLUSTER = ROOT / "experiments" / "trials" / "cluster"


def config_of(script):
    """Settings of the one command in a script, as it is when there is nothing to resume."""
    (line,) = re.findall(r"^ *jaxtwin (trial .*)$", script, re.M)
    line = line.replace('"${resume[@]}"', "")
    for name, default in re.findall(r"^(\w+)=\$\{\w+:-([^}]*)\}", script, re.M):
        line = line.replace(f'"${name}"', default)
    assert "$" not in line
    return parse(line.split())


def check_bash(script):
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)


def test_the_slurm_script():
    script = (CLUSTER / "trial.sbatch").read_text()
    check_bash(script)
    config = config_of(script)
    assert isinstance(config, TrialFileConfig) and config.stream and config.distributed
    arms = read_arms(read_trial(ROOT / config.file))
    assert len(arms) == 6
    asked = dict(re.findall(r"^#SBATCH --([\w-]+)=(\S+)", script, re.M))
    # JAX gives each task the device of its number on the node.
    assert asked["gres"] == f"gpu:{asked['ntasks-per-node']}"
    assert not {"gpus-per-task", "gpu-bind"} & asked.keys()


def test_the_kubernetes_job():
    service, job = yaml.safe_load_all((CLUSTER / "trial.yaml").read_text())
    name, spec = job["metadata"]["name"], job["spec"]
    pod = spec["template"]["spec"]
    (container,) = pod["containers"]
    told = {variable["name"]: variable for variable in container["env"]}
    assert spec["completionMode"] == "Indexed" and spec["completions"] == spec["parallelism"]
    assert told["JAX_NUM_PROCESSES"]["value"] == str(spec["completions"])
    # The first pod's name, in the headless service that selects this job's pods.
    assert pod["subdomain"] == service["metadata"]["name"]
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["selector"] == {"job-name": name}
    host, _ = told["JAX_COORDINATOR_ADDRESS"]["value"].split(":")
    assert host == f"{name}-0.{pod['subdomain']}"
    index = told["JAX_PROCESS_ID"]["valueFrom"]["fieldRef"]["fieldPath"]
    assert index == "metadata.annotations['batch.kubernetes.io/job-completion-index']"
    assert container["command"] == ["bash", "-c"]
    (script,) = container["args"]
    check_bash(script)
    config = config_of(script)
    assert isinstance(config, TrialFileConfig) and config.stream and config.distributed
    assert {str(config.out.parent)} == {volume["mountPath"] for volume in container["volumeMounts"]}


def test_processes_that_cannot_be_found_are_said(monkeypatch):
    monkeypatch.delenv("JAX_PROCESS_ID", raising=False)
    monkeypatch.setenv("JAX_NUM_PROCESSES", "2")
    with pytest.raises(ValueError, match=r"\('JAX_PROCESS_ID'; .*run it with srun"):
        join_processes()
    with pytest.raises(SystemExit):
        parse(["trial", "FILE", "--distributed", "--devices", "2"])


@pytest.mark.slow
def test_a_process_alone_is_told_how_to_find_the_others(tmp_path):
    (tmp_path / "small.toml").write_text(SMALL)
    (said,) = jaxtwin(tmp_path, "--distributed", "--out", str(tmp_path / "o"), each=[{}], code=2)
    assert "error: --distributed found no other processes" in said
    assert not (tmp_path / "o").exists()


SMALL = """
[cohort]
patients = 20
seed = 4
[arms.control]
[arms.drug]
vasodilator = { effect = -0.25 }
"""


def jaxtwin(folder, *flags, each, code=0):
    """Run the command in one process for each dictionary of variables; return what they said."""
    kept = {n: v for n, v in os.environ.items() if not n.startswith(("XLA_", "JAX_", "SLURM_"))}
    kept |= {
        "JAX_PLATFORMS": "cpu",
        "JAX_NUM_CPU_DEVICES": "2",
        # What SLURM's processes compile, those of Kubernetes have compiled before.
        "JAX_COMPILATION_CACHE_DIR": str(folder / "cache"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
    }
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "jaxtwin.cli", "trial", str(folder / "small.toml"), *flags],
            cwd=ROOT,
            env=kept | variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for variables in each
    ]
    try:
        said = [process.communicate(timeout=1800)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [code] * len(each), said
    return said


@pytest.mark.slow
def test_two_processes_do_what_one_does(tmp_path):
    (tmp_path / "small.toml").write_text(SMALL)
    alone, kubernetes, slurm = (tmp_path / name for name in ("alone", "kubernetes", "slurm"))
    jaxtwin(tmp_path, "--stream", "--out", str(alone), each=[{}])
    flags = ("--stream", "--distributed", "--out")
    port = free_port()
    variables = {"JAX_COORDINATOR_ADDRESS": f"localhost:{port}", "JAX_NUM_PROCESSES": "2"}
    first, second = jaxtwin(
        tmp_path,
        *flags,
        str(kubernetes),
        each=[variables | {"JAX_PROCESS_ID": str(i)} for i in range(2)],
    )
    assert "trial.zarr" in first and "written" not in second
    variables = {"SLURM_JOB_ID": "7", "SLURM_STEP_NODELIST": "localhost", "SLURM_NTASKS": "2"}
    variables |= {"JAX_COORDINATOR_PORT": str(port + 1)}
    jaxtwin(
        tmp_path,
        *flags,
        str(slurm),
        each=[variables | {"SLURM_PROCID": str(i), "SLURM_LOCALID": str(i)} for i in range(2)],
    )
    expected: Any = zarr.open_group(alone / "trial.zarr", mode="r")
    for folder in (kubernetes, slurm):
        found: Any = zarr.open_group(folder / "trial.zarr", mode="r")
        assert np.all(found["success"][:] == 1)
        np.testing.assert_array_equal(found["theta"][:], expected["theta"][:])
        for name, array in expected["endpoints"].arrays():
            scale = np.max(np.abs(array[:])) + 1e-6
            np.testing.assert_allclose(
                found[f"endpoints/{name}"][:], array[:], rtol=0, atol=2e-3 * scale, err_msg=name
            )
        assert (folder / "trial.md").exists() and (folder / "results.json").exists()
