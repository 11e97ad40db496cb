SELECT payload.1st FROM "t"
