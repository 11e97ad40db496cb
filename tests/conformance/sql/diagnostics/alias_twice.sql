SELECT clientid AS a, topic AS a FROM "t"
