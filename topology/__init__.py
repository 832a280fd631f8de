"""Where every client goes: the Internet as a graph, catchments, what-if."""
