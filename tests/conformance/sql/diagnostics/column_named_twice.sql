INSERT INTO readings (a, a) SELECT clientid, topic FROM "t"
