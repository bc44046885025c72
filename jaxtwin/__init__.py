"""jaxtwin: from a non-invasive measurement to a patient's simulated physiology, in JAX.

    import jaxtwin as jt

    heart = jt.models.LeftHeart()
    beat = jt.periodic_orbit(heart, heart.parameters())
    print(jt.read(heart, beat.recording(240), ["EDV", "EF"]))

The public names stand in `__init__.pyi`; each is imported when it is first used.
"""

from importlib.metadata import version

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
__version__ = version("jaxtwin")
