SELECT clientid FROM "t" WHERE payload.x = 1 ADN payload.y = 2
