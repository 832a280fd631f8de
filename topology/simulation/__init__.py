"""The closed loop: a fleet's own decision code against a model of the Internet, on a virtual clock."""
