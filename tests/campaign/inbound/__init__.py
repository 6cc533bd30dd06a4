"""Histories of accounts, rows and decisions of staff, told to pure functions in any order.

`clerk` is a small Clerk, `office` a small model of our tables around `facts.join` and
`decisions.derive`, `history` what can happen, `truths` what must hold.
"""
