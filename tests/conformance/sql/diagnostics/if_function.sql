SELECT if(qos = 0, 'a', 'b') AS kind FROM "t"
