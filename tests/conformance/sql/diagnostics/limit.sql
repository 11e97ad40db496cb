SELECT clientid FROM "t" LIMIT 10
