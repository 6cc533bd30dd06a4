"""What surfaces call: one function for each thing that people do.

Each raises the `ChangeFailed` family, and returns `Saved` with warnings. Nothing above knows of
attempts, locks or Clerk.
"""
