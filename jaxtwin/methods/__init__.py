"""Methods that estimate a patient's twin from a measurement, with one protocol (`base`)."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
