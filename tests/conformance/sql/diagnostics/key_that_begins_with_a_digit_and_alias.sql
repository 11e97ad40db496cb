SELECT payload.2nd AS t FROM "t"
