"""EF from clips: supervised against physics-informed learning on several data sets.

    python -m experiments.table_ef [--echonet DIR] [--camus DIR] [--preset tiny|default]

All methods get the same clips, the same split, the same number of training examples (drawn in the
same order; one row has three times as many and says so) and the same selection rule: the lowest
loss on validation clips. Each method is run with several seeds. Its error on unseen patients is
compared with that of always predicting the median and, for context, with published figures. EF is
given as predicted by the method and, if the method estimates parameters, re-simulated by the
circuit at those. Follows Kuang et al., NeurIPS 2024, table 1.

The table always includes phantom clips, and EchoNet-Dynamic and CAMUS if their folders are given.
Finished cells (data set, method, seed) are kept, and `--resume` continues with the others. The
default preset takes about two hours on two CPU cores, half of it for the paper's network. The tiny
one takes two minutes and only tests that everything runs.
"""
