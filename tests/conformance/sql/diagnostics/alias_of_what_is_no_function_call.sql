SELECT upper clientid AS c FROM "t"
