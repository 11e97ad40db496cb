SELECT clientid FROM "t" WHERE payload.a CONTAINS 'x'
