"""A campaign of faults: stories made up by hypothesis, and a real server killed at every step.

`python -m tests.campaign --scenarios N --kills M` runs it at length; the suite runs a short form.
"""
