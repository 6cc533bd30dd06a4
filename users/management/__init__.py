"""The commands of engineers, and what they share."""
