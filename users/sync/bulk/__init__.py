"""Bulk work: a plan says what would change, a run does exactly that, row by row through the same
dual write as the form. It can be killed at any moment and resumed.

`choosing`, `actions` and `spreadsheet` make a plan, `plan_file` stores one. `run` gives its rows
to the `workers`, within Clerk's rate limit; `limits` stop it before it becomes an accident. `undo`
plans the way back.
"""
