"""Every rule and every transaction, a module a journey.

`dual_write` is the one way in which a change reaches Clerk and the database; `operations` says
what each kind of change means; `save` and `account` are what the surfaces call; `recovery`
settles what a dead process left behind.
"""
