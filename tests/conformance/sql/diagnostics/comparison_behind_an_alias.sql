SELECT clientid c = 1 FROM "t"
