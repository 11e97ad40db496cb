SELECT clientid FROM "t" WHERE payload.x = 1 & payload.y = 2
