"""Pressures without a catheter: stroke work, peak pressure and contractility, by four methods.

    python -m experiments.pressures [--preset tiny|default|full] [--out DIR]

Measures the volume curve and the period of simulated patients, with and without an arm cuff, and
estimates what otherwise needs a catheter: by P-SSL through the emulator, by the neural posterior,
by a fit through the simulator, and by the clinic's own shortcut, a normalised pressure curve scaled
by the cuff. The patients are a laboratory's, at rest and under dobutamine; then patients made by
other circuits, whose curves are twinned with the left heart all the same. A last table asks for
contractility and cardiac output from a cuff alone, with EF, and with the curve, in the form of a
published study in silico.

The default preset takes twelve minutes on two CPU cores. Expect the shortcut to be about as good as
published in stroke work (r 0.95) where there is a cuff, all methods to lose the pressures' level
where there is none, and contractility by 0.9 systolic/ESV to be biased, because it neglects the
unstressed volume. On patients of other circuits expect larger errors of all, and 90% intervals that
hold less than they say.
"""
