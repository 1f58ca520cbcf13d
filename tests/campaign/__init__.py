"""A cluster of real processes under load and faults, judged by what its tasks wrote themselves."""
