"""Bulk work: a plan says what would change, a run does exactly that, row by row through the same
dual write as the form. It can be killed at any moment and resumed.

`choosing` and `spreadsheet` make a plan, `plan_file` keeps one, `run` carries it out within the
pace of the instance, `brakes` stop it before an accident, `undo` makes the plan back.
"""
