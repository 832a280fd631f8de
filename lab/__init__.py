"""The laboratory: one topology file, two ways to raise it, real daemons in every node."""
