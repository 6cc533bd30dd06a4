"""Mirror Clerk's accounts.

The package stores them, remembers the instance that they belong to, and compares them with the
rows.
"""
