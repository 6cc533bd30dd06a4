"""Our copy of Clerk: what is known of its accounts, and whose instance it is."""
