"""Systems of ordinary differential equations and their solvers."""
