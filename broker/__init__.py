"""An MQTT broker that knows nothing of rules: 3.1, 3.1.1 and 5.0, embedded in the process that asks for it.

`Broker` is started with a `BrokerConfig` and a `Hooks` object; what it speaks and what its limits are stands in
README.md beside this file. Everything below `server` and `listeners` is free of I/O: bytes and times go in, bytes and
decisions come out.
"""
