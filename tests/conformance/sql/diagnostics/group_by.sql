SELECT clientid FROM "t" GROUP BY clientid
