SELECT clientid AS 'device' FROM "t"
