SELECT clientid FROM "t" WHERE payload.a IS 1
