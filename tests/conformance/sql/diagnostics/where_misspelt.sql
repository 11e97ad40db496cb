SELECT clientid FROM "t" WERE payload.x = 1
