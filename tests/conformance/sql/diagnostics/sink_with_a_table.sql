INSERT INTO plant.readings SELECT clientid FROM "t"
