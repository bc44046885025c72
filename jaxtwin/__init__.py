"""jaxtwin: from a non-invasive measurement to a patient's simulated physiology, in JAX.

    import jaxtwin as jt

    heart = jt.models.LeftHeart()
    beat = jt.periodic_orbit(heart, heart.parameters())
    print(jt.read(heart, beat.recording(240), ["EDV", "EF"]))

The public names stand in `__init__.pyi`; each is imported when it is first used.
"""

from importlib import import_module
from importlib.metadata import version

import lazy_loader

_public, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


def __getattr__(name: str):
    try:
        return _public(name)
    except AttributeError:
        for module in ("models", "treatments", "inference", "methods", "data", "cohorts"):
            if not name.startswith("_") and name in dir(import_module(f"{__name__}.{module}")):
                raise AttributeError(
                    f"jaxtwin has no {name}: write jaxtwin.{module}.{name}"
                ) from None
        raise


__version__ = version("jaxtwin")
