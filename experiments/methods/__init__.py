"""Comparison of methods that learn a patient's circuit from a volume curve.

    python -m experiments.methods [--preset tiny|default|full] [--out DIR]

The task: 20 unseen patients from the seven-parameter box, with 60 samples of left-ventricular
volume over one beat; noise of 0, 3 and 6 mL; heart period known or unknown (the phases of the
samples are always known). There are five seeds, each with its own patients, noise and weights.
Methods that fit one patient at a time get the 20 curves and the noise level. Methods that learn
from a cohort are first trained on the curves of a thousand other patients; supervised regression
also gets their exact EDV and ESV. For each method the table shows the errors of EF, of the volume
curve, of the hidden ventricular pressure and of the parameters, both as returned by the method and
re-simulated at the estimated parameters; failures; optimiser steps; and time, limited to about one
minute per method. At the middle noise with known period, the methods that can use them also get
incomplete measurements: curves with 10, 30 and 50% of the samples missing, an arm cuff beside the
curve, and one of the two missing. Follows Kuang et al., NeurIPS 2024, table 2, in which the methods
had different tasks.

Hyperparameters were chosen on patients that are in no cell of this table. Finished cells (method,
noise, period, measurement, seed) are kept, and `--resume` continues with the others. The default
preset takes about two hours on two CPU cores. The tiny one takes five minutes, nearly all of it
compilation, and only tests that everything runs. `python -m benchmarks.methods` measures the cost
of a training step, of a new patient and of more patients.
"""
