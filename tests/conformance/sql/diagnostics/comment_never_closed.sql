SELECT /* the client clientid FROM "t"
