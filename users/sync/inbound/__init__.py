"""Apply what happens in Clerk, whether it is reported in any order, late, twice or not at all.

`deliveries` records each delivery once, and applies those that arrive together in one transaction
(`group_commit`). `events` turns Clerk's events into facts, and `facts` joins them. `decisions`
derives the consequences for a `group` of rows and accounts: their `links`, their `values` (with
`addresses`, which no two rows share), and the `notes` on what is in doubt. `reconcile` loads the
group and applies the decisions, in the transaction of the change that caused them.
"""
