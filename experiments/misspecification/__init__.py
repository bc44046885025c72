"""Does a twin know a patient whom its model cannot describe? Detection against false alarms.

    python -m experiments.misspecification [--preset tiny|default|full] [--run DIR] [--out DIR]

Measures the volume curves of patients made by other circuits (four chambers; Her's ventricle, with
competent and with leaking valves; Bjørdalsbakke's ventricle), and of the left heart's own patients
with an error that its task does not know: a curve that begins too late, one with a constant added,
noise of twice the size. Only patients are kept whose volumes and period are usual for the left
heart. Then asks in how many of them each check notices that the left heart could hardly have
produced the curve: the posterior-predictive check, the features of the flow, Ferrario's rule, and
the maximum mean discrepancy of groups. Beside them stands what the best fit tells, which bounds
every check of one patient's curve; and how often 90% intervals still hold EF, stroke work and peak
pressure, in all patients and in those that the predictive check did not notice.

With --run, the unseen phantom clips of a training run are sorted by the uncertainty that their
twins state, and the least certain fifth is refused: how much smaller is the error of EF then?

The default preset takes half an hour on two CPU cores. Expect 5% false alarms; at 0.5 mL of noise
nearly all patients of other circuits are noticed, at 6 mL from 15 to 90%, as the circuit differs.
"""
