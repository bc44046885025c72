"""A left ventricular assist device on every twin: loops, a sweep of the speed, and effects.

    python -m experiments.lvad [--preset tiny|default|full] [--twins FILE] [--out DIR]

Attaches the pump of Simaan et al. 2009 to patients drawn from the box, or learnt from clips
(--twins), at six speeds and at a speed below each patient's own suction, as a trial with paired
effects. Also simulates one patient with reduced EF over the whole range of speeds. Follows Kuang
et al., NeurIPS 2024, figure 4. Expect output and mean pressure to rise with speed, the ventricle
to empty, and the aortic valve to stay closed from about 10,000 rpm in failing hearts. EF rises
even at speeds at which blood flows back through the pump, so the table also shows output.

With 10,000 patients (preset full) it takes about two minutes on two CPU cores.
"""
