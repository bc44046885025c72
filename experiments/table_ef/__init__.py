"""EF from clips: supervised against physics-informed learning, on every data set at hand.

    python -m experiments.table_ef [--echonet DIR] [--camus DIR] [--preset tiny|default]

Every method gets the same clips, the same split, the same number of clips to learn from (drawn in
the same order; one row has three times as many, and says so) and the same rule of selection: the
lowest loss on validation clips. Each is run with several seeds, and its error on unseen patients
stands beside that of predicting the median for everyone, and beside published figures for context.
EF is given as the method predicts it and, where the method gives parameters, re-simulated by the
circuit at those. After Kuang et al., NeurIPS 2024, table 1.

Phantom clips are always in the table; EchoNet-Dynamic and CAMUS where their folders are given.
Cells (data set, method, seed) that are finished are kept: `--resume` goes on with the others. The
default takes about two hours on two CPU cores, half of it for the paper's network;
tiny takes two minutes and only shows that everything runs.
"""
