"""Senses: the world in, observations out. They measure and judge nothing."""
