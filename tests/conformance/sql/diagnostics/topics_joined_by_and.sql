SELECT clientid FROM "a" AND "b"
