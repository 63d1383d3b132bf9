"""Properties are tried with the same examples each time, however slow the machine is."""

from hypothesis import settings

settings.register_profile("krr", deadline=None, derandomize=True)
settings.load_profile("krr")
