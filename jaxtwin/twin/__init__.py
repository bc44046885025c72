"""One patient's digital twin: from a clip to a simulated beat, and what to think of it."""

from jaxtwin.twin.build import build_twin
from jaxtwin.twin.twin import Twin, describe, load_twin, summary

__all__ = ["Twin", "build_twin", "describe", "load_twin", "summary"]
