SELECT clientid FROM "t
