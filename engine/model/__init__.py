"""The vocabulary of the engine: messages, records, values, JSON text, counters."""
