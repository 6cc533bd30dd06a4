"""Change many users at once.

A plan says what would change. A run does exactly that, row by row through the same dual write as
the form; it can be killed at any moment and resumed.

`choosing`, `actions`, `accounts` and `spreadsheet` make plans, and `plan_file` stores one. `run`
gives its rows to the `workers`, within Clerk's rate limit. `limits` refuse a plan before it starts,
and `circuit` stops a run that fails. `undo` plans the reverse of a run.

The pages plan by `list_actions` and by spreadsheets, without what their author may not do
(`allowed`). `control` stores, starts, pauses and cancels such runs, and `background` carries them
out in the worker.
"""
