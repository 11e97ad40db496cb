SELECT clientid payload.a topic FROM "t"
