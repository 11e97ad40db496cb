"""The entry into the engine: everything that happens comes in here, meets its rules, and goes to its sinks."""
