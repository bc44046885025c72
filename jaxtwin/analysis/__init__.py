"""What a twin's numbers are worth: metrics, identifiability, familiarity."""
