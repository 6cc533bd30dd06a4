"""Manage builder users in PostgreSQL and in Clerk."""
