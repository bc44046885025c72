"""Learning a patient's circuit from a volume curve: P-SSL against its rivals.

    python -m experiments.methods [--preset tiny|default|full] [--out DIR]

Twenty unseen patients of the seven-parameter box, 60 samples of left-ventricular volume over one
beat, with noise of 0, 3 and 6 mL, the heart period known or not (the samples' phases always are);
five seeds, each with patients, noise and weights of its own. Methods that work on one patient get
the twenty curves and the noise's size; methods that learn from a cohort get the curves of a
thousand other patients before, and supervised regression the exact EDV and ESV of those. For each
the table has the error of EF, of the volume curve, of the hidden ventricular pressure and of the
parameters, as the method itself has them and simulated at the parameters found; the failures; the
optimiser's steps; and the time it took, of which each has about a minute at most. After
Kuang et al., NeurIPS 2024, table 2, where every method was given another task.

Hyperparameters were chosen on patients that are in no cell of this table. Cells (method, noise,
period, seed) that are finished are kept: `--resume` goes on with the others. The default takes
about an hour and a half on two CPU cores; tiny takes five minutes, nearly all of it compilation,
and only shows that everything runs. What a
training step, a new patient and more patients cost is measured by `python -m benchmarks.methods`.
"""
