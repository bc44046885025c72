"""Networks that map a clip to unbounded parameters (raw θ)."""
