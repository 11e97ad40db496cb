SELECT UPPER(clientid) AS name FROM "t"
