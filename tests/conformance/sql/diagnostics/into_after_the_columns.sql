SELECT clientid INTO readings FROM "t"
