"""The commands themselves, one module for each."""
