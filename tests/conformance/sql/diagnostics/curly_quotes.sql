SELECT clientid FROM “t”
