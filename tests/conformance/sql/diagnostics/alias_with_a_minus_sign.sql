SELECT payload.a AS room-temp FROM "t"
