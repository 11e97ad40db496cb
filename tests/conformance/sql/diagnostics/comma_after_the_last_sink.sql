INSERT INTO readings, SELECT clientid FROM "t"
