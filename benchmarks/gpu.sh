#!/usr/bin/env bash
# What matters on a GPU, in one table of at most ten minutes; see benchmarks/accelerator.
#
#     python -m pip install -e ".[gpu]"    # first: JAX for CUDA 13, whose driver must be there
#     benchmarks/gpu.sh                    # writes runs/gpu/table.md and rows.json
#     benchmarks/gpu.sh --quick            # a few minutes with small sizes; also on a CPU
#
# PYTHON=path/to/python chooses an environment; other arguments are those of the module.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
exec "${PYTHON:-python}" -m benchmarks.accelerator "$@"
