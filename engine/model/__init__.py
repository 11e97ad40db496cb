"""Data model of the engine: messages, chunks, records, values, JSON text, counters."""
