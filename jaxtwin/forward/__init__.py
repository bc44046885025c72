"""Forward models from parameters θ to a recording: simulator and emulator."""
