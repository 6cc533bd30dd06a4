"""Our keys in the public metadata of Clerk's users and invitations."""

from __future__ import annotations

OUR_ID = "cascade_user_id"
"""Holds the id of our row.

Others could write it too: an endpoint of the previous application let anybody. So it alone proves
nothing."""

OUR_INVITATION = "cascade_invitation"
"""Holds `Invitation.reference`, which identifies our invitation in Clerk.

Clerk copies it to the account of the person who accepts."""

RESERVED = frozenset({OUR_ID, OUR_INVITATION})
"""The keys that only this application may write."""
