"""Disease without labels: is it found in twins that were learnt from two volumes alone?

    python -m experiments.detection [--preset tiny|default|full] [--out DIR]
    python -m experiments.detection --data DIR --labels FILE

Renders phantom clips of a clinic's cohort (healthy, mitral stenosis, aortic stenosis, reduced
contractility, hypertension; `jaxtwin/cohorts/diseases.py`), learns twins of eight parameters from
them by P-SSL, once from EDV, ESV and EF alone and once with heart period and arm-cuff pressure
beside, and asks of the twins of unseen clips who is ill: by the parameter that the disease changes,
by being unlike the bulk, by groups found without labels, and by a classifier that was told other
patients' diagnoses. Beside them stand EF alone, the measured numbers themselves, the clip encoder's
features, the true volume curve, and the true parameters, which are the ceiling. No diagnosis is
seen before the scores. After Kuang et al., NeurIPS 2024, section on disease and figure 3b.

With --data and --labels (a CSV file with the columns patient, a clip's name, and diagnosis), the
same on real clips; period and pressures are used where FileList.csv has all three, in the columns
HeartPeriod, SystolicPressure and DiastolicPressure, for every clip. The default takes about 40
minutes on two CPU cores, tiny about one.
"""
