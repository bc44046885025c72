"""A published circuit of svZeroDSolver, solved by its own solver and by jaxtwin at equal error.

    python -m pip install svzerod && python -m benchmarks.circuits    # a few minutes
    python -m benchmarks.circuits --json FILE                         # also write the rows

The circuit is svZeroDSolver's test case `closed_loop_two_hill` (github.com/SimVascular/
svZeroDSolver, BSD 3-clause): the closed loop of four chambers, four vessels and four valves of
Regazzoni et al., Journal of Computational Physics 457, 2022, with double-Hill activations. Its
figures and equations are repeated here; the patients differ by up to 20% in seven of the figures.

Two tasks, whose answers are the extremes of the chambers' volumes and the arteries' and ventricles'
pressures over one beat: `third`, the third beat from the published initial state, as in the test
case; `settled`, the beat that repeats itself. Both solvers go through a ladder of step sizes (and
svZeroDSolver, which has no periodic solver, of numbers of beats). Errors, in percent of each
extreme, are the largest of all extremes and of the first patients, against SciPy's Radau at 1e-9.
The last table picks the fastest row of each solver within a given error. svZeroDSolver computes in
float64, one patient after another on one core; its circuit is built once and its parameters then
updated, since building it takes another 12 ms. Batches of jaxtwin use all cores, a batch of one
hardly more than one.
"""
