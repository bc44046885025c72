"""Digital twin of one patient: from a clip to a simulated beat with its uncertainty."""

from jaxtwin.twin.build import build_twin
from jaxtwin.twin.twin import Twin, describe, load_twin, summary

__all__ = ["Twin", "build_twin", "describe", "load_twin", "summary"]
