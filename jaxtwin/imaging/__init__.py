"""From frames to a volume curve: segmentation, volumes by discs, beats."""
