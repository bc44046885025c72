"""Networks from a clip to raw θ."""
