SELECT clientid FROM "t" WHERE
