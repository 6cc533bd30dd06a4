"""The calls of the gateway, each with arguments that fit."""

from __future__ import annotations

from collections.abc import Callable

from users.clerk import Clerk, Deadline

WRITES: dict[str, tuple[str, Callable[[Clerk, str, Deadline], object]]] = {
    "create_user": ("POST /users", lambda c, _, d: c.create_user(
        email="new@example.com", first_name="New", last_name="Person", public_metadata={},
        deadline=d)),
    "update_user": ("PATCH /users/{user_id}", lambda c, u, d: c.update_user(
        u, first_name="Marie", last_name="Jones", deadline=d)),
    "set_password": ("PATCH /users/{user_id}", lambda c, u, d: c.set_password(
        u, password="correct horse battery", sign_out=True, deadline=d)),
    "replace_email": ("PUT /users/{user_id}/email_address", lambda c, u, d: c.replace_email(
        u, email="marie@example.com", deadline=d)),
    "delete_user": ("DELETE /users/{user_id}", lambda c, u, d: c.delete_user(u, deadline=d)),
    "ban_user": ("POST /users/{user_id}/ban", lambda c, u, d: c.ban_user(u, deadline=d)),
    "unban_user": ("POST /users/{user_id}/unban", lambda c, u, d: c.unban_user(u, deadline=d)),
    "unlock_user": ("POST /users/{user_id}/unlock", lambda c, u, d: c.unlock_user(u, deadline=d)),
    "disable_mfa": ("DELETE /users/{user_id}/mfa", lambda c, u, d: c.disable_mfa(u, deadline=d)),
    "merge_metadata": ("PATCH /users/{user_id}/metadata", lambda c, u, d: c.merge_metadata(
        u, public_metadata={"role": None, "tags": {"b": 2}}, deadline=d)),
    "create_invitation": ("POST /invitations", lambda c, _, d: c.create_invitation(
        email="new@example.com", public_metadata={"k": "v"}, expires_in_days=7, deadline=d)),
    "revoke_invitation": ("POST /invitations/{invitation_id}/revoke",
        lambda c, _, d: c.revoke_invitation("inv_1", deadline=d)),
    "revoke_session": ("POST /sessions/{session_id}/revoke",
        lambda c, _, d: c.revoke_session("sess_1", deadline=d)),
}  # fmt: skip
READS: dict[str, Callable[[Clerk, str, Deadline], object]] = {
    "get_user": lambda c, u, d: c.get_user(u, deadline=d),
    "find_by_email": lambda c, _, d: c.find_by_email("mary@example.com", deadline=d),
    "search": lambda c, _, d: c.search("mary", deadline=d),
    "get_users": lambda c, u, d: c.get_users([u], deadline=d),
    "list_users": lambda c, _, d: c.list_users(deadline=d),
    "list_changed_users": lambda c, _, d: c.list_changed_users(deadline=d),
    "count_users": lambda c, _, d: c.count_users(deadline=d),
    "get_instance": lambda c, _, d: c.get_instance(deadline=d),
    "time": lambda c, _, d: c.time(deadline=d),
    "list_invitations": lambda c, _, d: c.list_invitations(deadline=d),
    "list_sessions": lambda c, u, d: c.list_sessions(u, deadline=d),
}
