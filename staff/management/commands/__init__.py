"""Commands for engineers: unlock a sign-in, or turn two-step sign-in off."""
