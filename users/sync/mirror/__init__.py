"""Our copy of Clerk: whose instance it is, and how its values compare with the rows."""
