"""The BGP hand: whole wanted tables in, proven facts out."""
