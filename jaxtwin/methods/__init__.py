"""Ways to learn a patient's parameters, siblings behind one interface."""
