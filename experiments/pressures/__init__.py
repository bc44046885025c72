"""Pressures without a catheter: stroke work, peak pressure and contractility, by four methods.

    python -m experiments.pressures [--preset tiny|default|full] [--out DIR]

Measures the volume curve and the period of simulated patients, with and without an arm cuff, and
estimates what otherwise needs a catheter: by P-SSL through the emulator, by the neural posterior,
by a fit through the simulator, and by the clinic's own shortcut, a normalised pressure curve scaled
by the cuff. The patients are a laboratory's, at rest and under dobutamine; then patients made by
other circuits, whose curves are twinned with the left heart all the same. A last table asks for
contractility and cardiac output from a cuff alone, with EF, and with the curve, in the form of a
published study in silico.

The default preset takes eight minutes of processor time. Expect the shortcut to be as good as
published in stroke work where there is a cuff (r above 0.95, some 400 mmHg·mL too low) and its 0.9
systolic/ESV too low; twins to know contractility two to three times as well; and nobody to know the
pressures without a cuff. On patients of other circuits expect errors of twins up to ten times as
large, and 90% intervals that hold far less than they say; the shortcut is affected less.
"""
