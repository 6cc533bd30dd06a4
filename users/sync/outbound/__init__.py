"""Bring a change to Clerk and the row: record, send, judge, then complete or recover it."""
