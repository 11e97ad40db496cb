SELECT clientid, FROM "t"
