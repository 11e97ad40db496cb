SELECT payload.on IS TRUE AS on FROM "t"
