SELECT clientid FROM "t" WHERE payload.x NOT LIKE 'a%'
