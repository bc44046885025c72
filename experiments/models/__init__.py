"""The same study for every model: emulator, P-SSL on a curve, and recovery of θ.

    python -m experiments.models --system lung [--preset tiny|default|full] [--out DIR]

Simulates the model over its box, trains an emulator and measures its error; simulates a noisy
measurement of one curve on a cohort of patients; trains an encoder through the frozen emulator on
those curves alone; and estimates the parameters of unseen patients. For comparison, the simulator
is fitted to each curve, and the middle of the box is used as an estimate. All estimates are
re-simulated and compared with the truth: the measured curve, hidden outputs, readings, and θ
itself relative to the box. The figure shows three patients (best, median and worst by the
re-simulated curve) and every parameter, learnt against true.

`--system all` runs all models and writes one table; with `--resume`, finished models are kept. A
model takes one to ten minutes on two CPU cores with the default preset. The tiny preset takes
about one minute and only tests that everything runs. Follows Kuang et al., NeurIPS 2024, whose
appendix lists other circuits and whose outlook mentions other organs.
"""
