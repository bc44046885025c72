"""Ways to a patient's twin, siblings behind one interface.

Every method says what it sees (`base.Sees`). Methods for curves implement
`base.AbstractCurveMethod`; methods for clips implement `clips.AbstractClipModel`.
"""
