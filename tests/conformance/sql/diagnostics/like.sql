SELECT clientid FROM "t" WHERE clientid LIKE 'dev%'
