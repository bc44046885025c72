"""Models of others, read from the files in which they are published."""
