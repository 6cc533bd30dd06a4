"""Who may make which change: permissions of staff, their groups, and who stands above whom."""
