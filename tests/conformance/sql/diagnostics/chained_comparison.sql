SELECT clientid FROM "t" WHERE 0 < payload.a < 5
