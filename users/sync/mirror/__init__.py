"""Our copy of Clerk: how its values are compared with the rows."""
