"""Models of physiology and the ways to solve them."""
