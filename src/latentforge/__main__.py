"""`python -m latentforge`."""

from latentforge.cli import entry_point

entry_point()
