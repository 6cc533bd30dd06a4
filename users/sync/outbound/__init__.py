"""A change on its way to Clerk and the row: recorded, sent, judged, completed or recovered."""
