SELECT upper(clientid AS c) AS u FROM "t"
