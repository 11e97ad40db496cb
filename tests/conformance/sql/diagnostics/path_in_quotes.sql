SELECT clientid FROM "t" WHERE "payload.temp" > 30
