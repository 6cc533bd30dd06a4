"""Decide who may make which change: permissions, staff groups and rank."""
