"""Does a twin know a stranger? Verdicts on clips of which no twin can be made.

    python -m experiments.strangers [--preset tiny|default|full] [--run DIR] [--out DIR]

Takes unseen phantom clips of a training run (--run; by default it trains one first), and makes
strangers of them: upside-down, turned by a quarter, mirrored, played at twice the speed, spliced
from two hearts, a still, noise, an empty sector, other organs, colour Doppler over the grey, half
of the ventricle outside of the picture. Counts how many of them are doubted or refused, how many of
the clean clips are, and how many clean clips are trusted although the ejection fraction is more
than 15 points off.

Takes a few minutes on two CPU cores with --run. Expect that nearly all strangers are caught at a
few percent of false alarms.
"""
