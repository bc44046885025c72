"""One module for each table or figure: `python -m experiments.NAME --help`."""
