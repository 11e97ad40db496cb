SELECT clientid FROM "t" WHERE payload.x =< 1
