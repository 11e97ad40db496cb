SELECT clientid AS 1 FROM "t"
