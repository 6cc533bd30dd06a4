"""Our keys in the public metadata of Clerk's users and invitations."""

from __future__ import annotations

OUR_ID = "cascade_user_id"
"""Holds the id of our row. Others could write there too (the endpoint of the application before
let anybody): alone it proves nothing."""

OUR_INVITATION = "cascade_invitation"
"""Holds `Invitation.reference`: by it ours is known again, at Clerk and on the account of who
accepts it."""

RESERVED = frozenset({OUR_ID, OUR_INVITATION})
"""What only this application writes."""
