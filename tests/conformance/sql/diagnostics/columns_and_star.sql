INSERT INTO readings (device) SELECT * FROM "t"
