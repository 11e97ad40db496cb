"""Parts that several kinds of sinks share. The kinds do not import each other."""
