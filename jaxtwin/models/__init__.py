"""Models: parts of circuits, and one file a model."""
