"""The admin API: state, counters, dead letters and clients of a running process, over HTTP.

Routes translate HTTP to `port.AdminPort` and back, without decisions of their own. Paths and names are those of EMQX
where it has them (``/api/v5``). The application starts `server.ApiServer`, which imports FastAPI only then.
"""
