SELECT payload.a 'temp' FROM "t"
