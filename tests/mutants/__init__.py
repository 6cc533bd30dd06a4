"""Mutation tests: change the code in one place at a time, and see whether a test fails.

`make mutants` runs them over the modules of `plan`. Nothing is written to the code: a mutant lives
in the memory of a process that ends with its tests.
"""
