"""What happens in Clerk reaches us: in any order, late, twice, or not at all.

Facts are joined (`facts`), decisions are derived from them (`decisions`, `addresses`) and applied
(`reconcile`), in the transaction of whatever changed. `events` makes facts of Clerk's events.
"""
