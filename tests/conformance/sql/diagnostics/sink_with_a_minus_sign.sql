INSERT INTO hot-rooms SELECT clientid FROM "t"
