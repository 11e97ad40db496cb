"""What several kinds of sinks share; the kinds themselves do not know each other."""
