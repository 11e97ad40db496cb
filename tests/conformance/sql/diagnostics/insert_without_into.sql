INSERT readings SELECT clientid FROM "t"
