"""Is a probability of disease reliable, and what does acting on it cost?

    python -m experiments.decisions [--preset tiny|default|full] [--run DIR] [--out DIR]

The patients of `experiments.detection` (healthy, mitral stenosis, aortic stenosis, reduced
contractility, hypertension) are seen by a noisy volume curve and its period, its start known and
unknown. Posteriors give the probability that the parameter that a disease changes lies beyond its
healthy range. It is compared with what is true, in reliability diagrams: for patients of the prior
that the posterior was learnt with, and for the clinic's, of whom far fewer are ill; there also
corrected for prevalence by Bayes' rule, and from a posterior learnt with the clinic's patients as
prior. Then a missed patient costs 1, 5 or 20 false alarms, and patients are treated if that pays
at their probability. Beside it stand the twins of P-SSL, whose parameter is beyond the healthy
limit or beyond the best threshold on patients with diagnoses, and treating all or nobody: decision
curves after Vickers and Elkin, 2006.

With --run DIR, the same is measured on phantom clips of such a clinic, from the curves, the twins
and the posteriors of that training run. The default preset takes about half an hour on two CPU
cores, the tiny one a minute or two.
"""
