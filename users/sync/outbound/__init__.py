"""Bring a change to Clerk and the row: record, send, judge, then complete or recover it.

`dual_write` is the way of every new change: it records an attempt in the `journal`, and makes the
change by `exchange`, under the `locks`. `exchange` looks for `conflicts`, writes the row within the
`constraints` of the database, and calls Clerk. `completion` is the end of a change that Clerk has.
`pending` says which attempts may still arrive at Clerk, and `recovery` decides those that were left
pending. `repeats` answers a form that was sent twice. `holders` names who has an email that was
refused, `revocation` closes invitations that nobody needs, and `checkpoints` is for tests.
"""
