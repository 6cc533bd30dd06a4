"""Management commands of the staff sign-in."""
