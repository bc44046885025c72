"""From θ to a recording: the simulator, and the emulator in its place."""
