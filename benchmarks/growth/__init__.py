"""How the cost of periodic orbits grows with patients, states, steps and devices.

    python -m benchmarks.growth [--figure docs/pictures/growth.png] [--json F]   # three minutes
    python -m benchmarks.growth --quick                                          # tiny

- patients: left hearts in batches of 1 to 65,536; beats a second.
- states: 4,096 chains of n compartments between a pulsating inflow and the veins, with the
  resistance and compliance of one windkessel shared among them; microseconds per beat and state.
- steps: 4,096 left hearts with 60 to 960 steps (samples) of a beat; microseconds per beat and step.
- devices: 4,096 left hearts on 1, 2, 4 and 8 virtual devices of this machine's cores, each number
  in its own process; beats a second: what spreading costs, not what more cores give.

All in float32, the median of a few runs after a first one. The tables have these costs beside the
duration of the whole batch, which the figure shows on logarithmic axes of one scale: linear growth
rises by 45 degrees.
"""
