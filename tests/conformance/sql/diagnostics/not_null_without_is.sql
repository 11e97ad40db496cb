SELECT clientid FROM "t" WHERE payload.x NOT NULL
