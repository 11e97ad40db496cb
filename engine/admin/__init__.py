"""The admin API: what runs, how it does, and the few things that can be changed while it runs.

Routes translate HTTP to `port.AdminPort` and back; nothing is decided here. Paths and words are EMQX's where it has
them (``/api/v5``). `server.ApiServer` is what the application starts; FastAPI is imported only then.
"""
