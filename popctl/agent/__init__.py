"""The shell: one mutable World, one task that folds events, decides and applies."""
