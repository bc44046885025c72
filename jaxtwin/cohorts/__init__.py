"""Many patients at once: batching, simulation, draws, diseases, storage."""
