INSERT INTO readings (device, temp) SELECT clientid FROM "t"
