"""One road for every model: emulator, P-SSL on a curve, recovery of θ against the truth.

    python -m experiments.models --system lung [--preset tiny|default|full] [--out DIR]

Simulates the model over its box, trains an emulator and measures it; measures one curve with noise
on a cohort of simulated patients; learns an encoder through the frozen emulator from those curves
alone; and asks it for the parameters of unseen patients. Beside it stand a fit of the simulator to
each curve and the middle of the box. Everything is judged against the truth, re-simulated at the
parameters found: the measured curve, hidden outputs, what is read off them, and θ itself as a share
of the box. The figure shows three patients (best, median and worst by the re-simulated curve) and
every parameter as learnt against the truth.

`--system all` does one after the other, and ends with one table; models that are finished are kept
when it goes on with `--resume`. A model takes one to ten minutes on two CPU cores with the default
preset; tiny takes about one, and only shows that everything runs. After Kuang et al., NeurIPS 2024,
whose appendix lists other circuits and whose outlook names other organs.
"""
