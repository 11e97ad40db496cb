SELECT upper(clientid) FROM "t"
