SELECT clientid payload.temp, qos topic FROM "t"
