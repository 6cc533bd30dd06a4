"""The JSON API for the front end (docs/api.yml), a browser application with sign-in by Clerk.

Each request proves its person by a session token in the header `Authorization`. No cookie counts,
so no other page can send a request as somebody else, and CSRF tokens are not needed.
"""
