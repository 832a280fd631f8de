"""The balancer hand: whole wanted tables in, what the kernel was seen to hold out."""
