"""The published figures of the circuit, in SI units, and those in which patients differ."""

PERIOD = 0.689655
VENTRICLES = (0.207, 0.18551724137931036, 1.32, 0.31172413793103454, 27.4)
ATRIA = (0.025, 0.07586206896551724, 1.32, 0.12413793103448276, 13.1)
"""Shift [s]; half time [s] and exponent of rise and of fall."""
OPEN, CLOSED = 6.666e5, 6.666e9
"""Resistances of a valve [Pa·s/m³]."""
CHAMBERS = {
    "LA": (2.666e7, 2.0449931e7, 4.0e-6),
    "LV": (3.33878537e8, 1.2605372e7, 1.9763060505362944e-6),
    "RA": (7.999343e6, 4.932281e6, 4.0e-6),
    "RV": (6.5719659e7, 5.406837e6, 5.431634509432495e-5),
}
"""Active and passive elastance [Pa/m³] and unstressed volume [m³]."""
VESSELS = {
    "AR_SYS": (9.0219259e7, 6.93626e-9, 6.66611e5),
    "VEN_SYS": (8.506913e6, 4.5004e-7, 6.66611e4),
    "AR_PUL": (4.266316e6, 7.5006e-8, 6.66611e4),
    "VEN_PUL": (4.666283e6, 1.2001e-7, 6.66611e4),
}
"""Resistance [Pa·s/m³], compliance [m³/Pa] and inertance [Pa·s²/m³]."""
VALVES = {
    "MV": ("LA", "LV"),
    "AV": ("LV", "AR_SYS"),
    "TV": ("RA", "RV"),
    "PV": ("RV", "AR_PUL"),
}
"""Blocks upstream and downstream."""
LOOP = (
    *("LA", "MV", "LV", "AV", "AR_SYS", "J0", "VEN_SYS", "J1"),
    *("RA", "TV", "RV", "PV", "AR_PUL", "J2", "VEN_PUL", "J3", "LA"),
)
VOLUMES = {
    "LA": 5.624441188959639e-5,
    "LV": 8.142759737438905e-5,
    "RA": 8.913584459023032e-5,
    "RV": 1.1868964658139649e-4,
}
"""Volumes of the chambers at the start [m³], including the unstressed ones."""
PRESSURES = {
    "AR_SYS": 9926.03115972516,
    "VEN_SYS": 1358.6946929956583,
    "AR_PUL": 2075.062641303878,
    "VEN_PUL": 1744.2583185734634,
}
"""Pressures at the inlets of the vessels at the start [Pa]."""
FLOWS = {
    "AR_SYS": 9.612211741415929e-5,
    "VEN_SYS": 1.1034140583655498e-4,
    "AR_PUL": 7.93375172471186e-5,
    "VEN_PUL": 4.621258343525287e-5,
}
"""Flows out of the vessels at the start [m³/s]."""

VARIED = {
    "E_lv": ("LV", 0),
    "E_min_lv": ("LV", 1),
    "E_rv": ("RV", 0),
    "R_s": ("AR_SYS", 0),
    "C_sa": ("AR_SYS", 1),
    "R_p": ("AR_PUL", 0),
    "C_pa": ("AR_PUL", 1),
}
"""Block of each parameter in which patients differ, and its place in the block's figures."""
