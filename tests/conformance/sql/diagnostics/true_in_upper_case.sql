SELECT clientid FROM "t" WHERE payload.on = TRUE
