"""Detection of disease, without labels, from twins learnt from volumes or a volume curve.

    python -m experiments.detection [--preset tiny|default|full] [--out DIR]
    python -m experiments.detection --data DIR --labels FILE

Renders phantom clips of a mixed cohort (healthy, mitral stenosis, aortic stenosis, reduced
contractility, hypertension; `jaxtwin/cohorts/diseases.py`) and learns twins with eight parameters
from them by P-SSL, once from EDV, ESV and EF alone and once with heart period and arm-cuff pressure
in addition; and from the exact volume curve with noise and its period, its start known and unknown.
With --run DIR, the networks of a run of `experiments.pssl` find curve and period in the clips, and
twins are learnt from these too. Beside the twins from curves stand posteriors, which give the
probability that a parameter is beyond its healthy range. Disease is then detected in the twins of
unseen clips in four ways: by the parameter that the disease changes, as outliers, by unsupervised
clustering, and by a classifier trained on other patients' diagnoses. For comparison, the same is
done with EF alone, the measured values, the clip encoder's features, the true volume curve, and the
true parameters, which are an upper bound. Training the twins uses no diagnosis. Follows Kuang et
al., NeurIPS 2024, section on disease and figure 3b.

With --data and --labels (a CSV file with the columns patient, a clip's name, and diagnosis) the
experiment uses real clips. Period and pressures are used if FileList.csv has all three for every
clip, in the columns HeartPeriod, SystolicPressure and DiastolicPressure. The default preset takes
about an hour on two CPU cores, the tiny one about one minute; --learn-from picks rows.
"""
