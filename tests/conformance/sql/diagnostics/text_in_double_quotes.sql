SELECT * FROM "t" WHERE clientid = "dev-1"
