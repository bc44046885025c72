"""Speed and accuracy beside what a user would pick instead; RESULTS.md keeps the tables."""
