"""Ways to a patient's twin: one protocol, tasks of curves and of clips, one file a method.

`base` explains the protocol, with a method of one's own as an example.
"""
