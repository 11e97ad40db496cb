SELECT clientid FROM "t" WHERE payload.a = 1, payload.b = 2
