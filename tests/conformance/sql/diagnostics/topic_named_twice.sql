SELECT clientid FROM "t", "t"
