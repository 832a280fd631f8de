"""Configuration file to `Pop` value: all problems at once, each with its place and its remedy."""
