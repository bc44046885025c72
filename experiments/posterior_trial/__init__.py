"""Trials and doses of patients known by their posteriors, against the patients themselves.

    python -m experiments.posterior_trial [--preset tiny|default|full] [--out DIR]

Draws patients from the paper's box, measures their volume curves with noise of 3 mL and known
period, and takes those into a trial whose measured ejection fraction is at most 40%. A neural
posterior learns from its own simulations. Every draw of every patient then gets a vasodilator and a
pump, and the effects are compared with the true ones and with those of point twins at the mean of
the posterior. Then each patient's pump speed is chosen: the largest output with a safe aortic
pressure and no suction.

The criterion is measured, as a clinic's is: patients chosen by their true EF would not be draws
from their posteriors. The default preset takes three minutes of processor time, ten beside much
other work. Expect intervals of the effects to hold the truth in 84 to 90% of the patients, point
twins to give three patients in ten an unsafe speed, and speeds that are safe in 95% of the draws to
be unsafe in few patients, at the price of a tenth of the output and of patients without any speed
that is known to be safe.
"""
