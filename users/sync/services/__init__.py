"""Offer one function for each thing that people do. The surfaces call these.

Functions that change something raise the `ChangeFailed` family, and most return `Saved` with
warnings. Their callers know nothing of attempts, locks or Clerk.
"""
