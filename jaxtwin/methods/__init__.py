"""Methods: ways from a measurement to a patient's twin, behind one protocol (`base`)."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
