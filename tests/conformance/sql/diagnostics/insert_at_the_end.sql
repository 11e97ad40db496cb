SELECT clientid FROM "t" INSERT INTO readings
