"""What happens in Clerk reaches us: in any order, late, twice, or not at all.

`events` makes facts of Clerk's events, `facts` joins them. `decisions` derives what follows for a
`group` of rows and accounts: their `links`, their `values` (with `addresses`, which no two rows
share), and the `notes` on what is in doubt. `reconcile` loads the group and applies the decisions,
in the transaction of whatever changed.
"""
