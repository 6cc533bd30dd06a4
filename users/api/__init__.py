"""What the front end asks for, over JSON (docs/api.yml): a front end in a browser, whose people are
signed in with Clerk.

Each request proves its person by a session token in the header `Authorization`. No cookie counts,
so no other page can send a request in somebody's name, and CSRF tokens are not needed.
"""
