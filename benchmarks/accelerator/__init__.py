"""What matters on a GPU, in one table of at most ten minutes; `benchmarks/gpu.sh` runs it.

    python -m benchmarks.accelerator                     # sizes for a GPU, or small ones on a CPU
    python -m benchmarks.accelerator --quick             # small sizes everywhere
    python -m benchmarks.accelerator --parts forward     # some parts

Every part has a process and a time limit of its own: what one has measured before it fails or is
late stays in the table, with a line that says why the rest is missing. `table.md` and `rows.json`
in `--out` have the rows, the device, and the versions.

- ceilings: what the device can do at most, measured: operations a second of a product of matrices
  (float32 as JAX computes it by default, which on NVIDIA's GPUs since Ampere is TF32, and
  bfloat16), and bytes a second of a copy.
- forward, gradient: periodic states of the left heart a second, and with the gradients of both
  volumes by seven parameters; float32.
- emulator: simulations a second for its training set, and steps of its training.
- encoder: clips a second in a training step of the encoders (gradient and AdamW, on a batch that is
  on the device), in both precisions. The operations of the gradient, as XLA counts them, give the
  share of the ceiling.
- segmentation: frames and clips (of 12 frames) a second in the real training loop, with
  augmentation and the transfer of batches, in both precisions.
- posterior: steps of the training of a neural posterior, and draws a second.
- orbit, gradient_of_one: time to a first answer in a fresh process without any compiled program.

`first_s` is the duration of the first call beyond that of a later one: mostly compilation.
"""
