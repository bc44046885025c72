"""Distributions of the learnt parameters in patients with reduced and with preserved EF.

    python -m experiments.parameters [--run runs/table_ef-default] [--out DIR]

Takes the parameters that P-SSL learnt for unseen patients in a finished run of
`experiments.table_ef`, for each of its data sets, and compares patients with reduced (at most 40%)
and with preserved measured ejection fraction (at least 50%). Draws histograms in physical units
together with the prior (the cohort from which phantoms are drawn) and, for phantoms, the truth.
Differences are tested with the Mann-Whitney rank test, corrected for the number of parameters by
Holm's method. For phantoms, the same test on the true parameters shows which differences exist.
Follows Kuang et al., NeurIPS 2024, figure 3a. Takes seconds.
"""
